//! What is installed elsewhere works there: the unit, the Debian package, the image.

mod booted;
mod deb;
mod image;
mod migration;
mod overlay;
mod systemd;
mod unit;

use anyhow::{Context as _, Result};

/// The value of a key of the packaged unit, which must have it once.
fn of_unit(key: &str) -> Result<&'static str> {
    const UNIT: &str = include_str!("../../lb-userspace/packaging/fairlead.service");
    let mut values = UNIT.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.next().with_context(|| format!("the unit has no {key}"))
}

/// The unit's capabilities, without `CAP_`, in lower case.
pub(super) fn capabilities() -> Result<Vec<String>> {
    let words = of_unit("CapabilityBoundingSet")?.split(' ');
    Ok(words.map(|word| word.trim_start_matches("CAP_").to_lowercase()).collect())
}

/// A Debian package, by its version.
fn package(version: &str) -> Result<String> {
    let directory = std::env::var("FAIRLEAD_DEBS")
        .context("FAIRLEAD_DEBS is not set: cargo xtask test packages")?;
    Ok(format!("{directory}/fairlead_{version}.deb"))
}
