//! The CloudFreedom Router as a server: HTTP, configuration, processes. The binary is one call of [`command::run`].
//!
//! In reading order: a [`config`] says what to offer, [`state`] puts the parts together, [`router`] has every route on
//! one page, [`calls`] answers calls to models in every dialect, [`api`] manages tenants and money, [`serve`] listens and drains.

pub mod command;
pub mod config;
pub mod database;
pub mod state;

pub mod auditor;
mod notices;
#[cfg(feature = "redis")]
pub mod redis;
pub mod shared;
mod upkeep;

pub mod router;

pub mod anthropic;
pub mod calls;
pub mod gemini;
pub mod models;
pub mod openai;
pub mod realtime;

pub mod accounts;
pub mod api;
pub mod auth;
pub mod batches;
mod compat;
pub mod federation;
pub mod mail;
pub mod oidc;
pub mod people;

pub mod cli;
pub mod demo;
pub mod error;
pub mod files;
mod import;
pub mod leads;
pub mod leaks;
pub mod observe;
pub mod openapi;
pub mod secrets;
pub mod seed;
pub mod serve;
pub mod terminal;
mod turns;
