//! Comma-separated values (RFC 4180). Pure.

use anyhow::{Context as _, Result};
use serde::Serialize;

/// A line for each row below one with the names of its keys; nothing without rows.
pub(super) fn of<T: Serialize>(rows: &[T]) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    rows.iter().try_for_each(|row| writer.serialize(row)).context("writing CSV")?;
    let bytes = writer.into_inner().context("writing CSV")?;
    String::from_utf8(bytes).context("writing CSV")
}
