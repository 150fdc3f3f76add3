//! Compiles and runs the code of the README, so that it stays true.
#![doc = include_str!("../README.md")]
