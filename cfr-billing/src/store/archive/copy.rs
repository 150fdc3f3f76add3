//! The move itself: read, write, compare, audit, and only then declare the copy complete.

use std::sync::Arc;

use cfr_core::time::Timestamp;
use serde::Serialize;

use super::{Archive, Digest, Origin, Rows, Section, Snapshot};
use crate::store::{Finding, StoreError};

/// How far a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CopyProgress {
    /// The books of the source are audited.
    AuditingSource,
    /// A section is copied: rows and usage records so far.
    Copying(Counts),
    /// A section is read back from the target: rows and usage records so far.
    Comparing(Counts),
    /// The books of the target are audited.
    AuditingTarget,
}

/// Rows of a section so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// The section.
    pub section: Section,
    /// Its rows.
    pub rows: u64,
    /// Usage records among them.
    pub usage_records: u64,
}

/// What was found in one section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// What was counted.
    pub section: &'static str,
    /// Its rows.
    pub rows: u64,
    /// Usage records in them.
    pub usage_records: u64,
    /// SHA-256 over all of them in their order, or combined over each daily sum, as hexadecimal digits.
    pub digest: Arc<str>,
}

/// What a complete copy has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CopyReport {
    /// Where the rows come from.
    pub origin: Origin,
    /// Every section, the same on both sides.
    pub sections: Vec<Counted>,
    /// Rows in which the target could not keep a name as it was: see [`Archive::fitted`].
    pub renamed: u64,
}

/// Why there is no complete copy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The source cannot be read, or is in use.
    #[error("the source cannot be copied: {0}")]
    Source(StoreError),
    /// The target cannot be written, or is not empty.
    #[error("the target cannot be written: {0}")]
    Target(StoreError),
    /// The books of the source do not add up. A copy would seal the mistake.
    #[error("the books of the source do not agree: {}; look at them with `cfr-server ledger verify`", summary(.0))]
    SourceFindings(Vec<Finding>),
    /// The target does not have what was written.
    #[error("the {} of the target differ from those of the source ({} of {}); the target stays marked as incomplete",
        .found.section, .found.rows, .expected.rows)]
    Difference {
        /// What the source has.
        expected: Counted,
        /// What the target has.
        found: Counted,
    },
    /// The books of the target do not add up.
    #[error("the books of the target do not agree: {}; the target stays marked as incomplete", summary(.0))]
    TargetFindings(Vec<Finding>),
}

fn summary(findings: &[Finding]) -> String {
    match findings {
        [] => "no finding".into(),
        [one] => one.what.clone(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}

/// Moves everything from a stopped source into an empty target, reads it back, compares and audits it. The source is not
/// changed. A copy that does not succeed stays marked as incomplete, and the target refuses to be used.
///
/// # Errors
/// [`CopyError`] says which side failed.
///
/// # Cancel safety
/// A dropped future leaves the target marked as incomplete.
pub async fn copy(
    source: &dyn Archive,
    target: &dyn Archive,
    name: &str,
    now: Timestamp,
    progress: &mut (dyn FnMut(CopyProgress) + Send),
) -> Result<CopyReport, CopyError> {
    target.check_empty().await.map_err(CopyError::Target)?;
    let mut snapshot = source.snapshot(now).await.map_err(CopyError::Source)?;
    progress(CopyProgress::AuditingSource);
    none_but_waiting(source.audit().await.map_err(CopyError::Source)?).map_err(CopyError::SourceFindings)?;
    let origin = Origin { source: name.into(), heads: snapshot.heads().await.map_err(CopyError::Source)? };
    target.begin_copy(&origin, now).await.map_err(CopyError::Target)?;
    let (mut sections, mut renamed) = (Vec::new(), 0);
    for &section in Section::ALL {
        let so_far = &mut |counts| progress(CopyProgress::Copying(counts));
        let (counted, changed) = copy_section(&mut *snapshot, target, section, so_far).await?;
        sections.push(counted);
        renamed += changed;
    }
    drop(snapshot);
    compare(target, &sections, now, progress).await?;
    progress(CopyProgress::AuditingTarget);
    none_but_waiting(target.audit().await.map_err(CopyError::Target)?).map_err(CopyError::TargetFindings)?;
    source.snapshot(now).await.map_err(CopyError::Source)?; // nobody came back to life meanwhile
    let report = CopyReport { origin, sections, renamed };
    target.finish_copy(&report, now).await.map_err(CopyError::Target)?;
    Ok(report)
}

/// Counts everything in a stopped store, without writing anywhere.
///
/// # Errors
/// As [`Archive::snapshot`], or when the store cannot be read.
pub async fn count(
    store: &dyn Archive,
    now: Timestamp,
    so_far: &mut (dyn FnMut(Counts) + Send),
) -> Result<Vec<Counted>, StoreError> {
    let mut snapshot = store.snapshot(now).await?;
    let mut sections = Vec::new();
    for &section in Section::ALL {
        sections.push(count_section(&mut *snapshot, section, so_far).await?);
    }
    Ok(sections)
}

/// The next rows are read while the last ones are written.
async fn copy_section(
    source: &mut dyn Snapshot,
    target: &dyn Archive,
    section: Section,
    so_far: &mut (dyn FnMut(Counts) + Send),
) -> Result<(Counted, u64), CopyError> {
    let (mut tally, mut renamed) = (Tally::new(section), 0);
    let mut rows = source.read(section).await.map_err(CopyError::Source)?;
    while !rows.is_empty() {
        let (fitted, changed) = target.fitted(rows);
        renamed += changed;
        tally.add(&fitted).map_err(CopyError::Source)?;
        let (written, next) = tokio::join!(target.write(&fitted), source.read(section));
        written.map_err(CopyError::Target)?;
        rows = next.map_err(CopyError::Source)?;
        so_far(tally.counts);
    }
    Ok((tally.finish(), renamed))
}

async fn compare(
    target: &dyn Archive,
    sections: &[Counted],
    now: Timestamp,
    progress: &mut (dyn FnMut(CopyProgress) + Send),
) -> Result<(), CopyError> {
    let so_far = &mut |counts| progress(CopyProgress::Comparing(counts));
    let found = count(target, now, so_far).await.map_err(CopyError::Target)?;
    match sections.iter().zip(found).find(|(expected, found)| *expected != found) {
        Some((expected, found)) => Err(CopyError::Difference { expected: expected.clone(), found }),
        None => Ok(()),
    }
}

async fn count_section(
    snapshot: &mut dyn Snapshot,
    section: Section,
    so_far: &mut (dyn FnMut(Counts) + Send),
) -> Result<Counted, StoreError> {
    let mut tally = Tally::new(section);
    loop {
        let rows = snapshot.read(section).await?;
        if rows.is_empty() {
            return Ok(tally.finish());
        }
        tally.add(&rows)?;
        so_far(tally.counts);
    }
}

/// Leases of lives that are over wait for the first start to be reclaimed: that is no mistake.
fn none_but_waiting(findings: Vec<Finding>) -> Result<(), Vec<Finding>> {
    let mistakes: Vec<Finding> = findings.into_iter().filter(|finding| !finding.rule.is_warning()).collect();
    if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
}

/// Counts and digests rows as they come.
#[derive(Debug)]
struct Tally {
    counts: Counts,
    digest: Digest,
}

impl Tally {
    fn new(section: Section) -> Self {
        Self { counts: Counts { section, rows: 0, usage_records: 0 }, digest: Digest::of(section) }
    }

    fn add(&mut self, rows: &Rows) -> Result<(), StoreError> {
        self.counts.rows += rows.len() as u64;
        self.counts.usage_records += rows.usage_records() as u64;
        rows.digest(&mut self.digest)
    }

    fn finish(self) -> Counted {
        let Counts { section, rows, usage_records } = self.counts;
        Counted { section: section.name(), rows, usage_records, digest: self.digest.hex() }
    }
}
