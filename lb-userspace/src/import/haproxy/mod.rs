//! Reads haproxy.cfg, of HAProxy 1.5 to 3. Pure.
//!
//! ```text
//! bytes -> lexer (words) -> section (lines) -> proxy (bind, server, check) -> Haproxy
//! ```

use std::rc::Rc;

use super::findings::Findings;
use super::source::Read;

pub(crate) mod bind;
pub(crate) mod check;
mod known;
mod lexer;
pub(crate) mod proxy;
mod section;
pub(crate) mod server;
pub(crate) mod value;

pub(crate) use lexer::Environment;
pub(crate) use proxy::{Haproxy, Proxy};

/// Reads a file; `environment` is what HAProxy would find in its own.
pub(crate) fn read(
    file: &Rc<str>,
    bytes: &[u8],
    environment: &Environment,
    findings: &mut Findings,
) -> Read<Haproxy> {
    let sections = section::sections(file, bytes, environment.clone(), findings)?;
    proxy::read(&sections, findings)
}

#[cfg(test)]
mod tests;
