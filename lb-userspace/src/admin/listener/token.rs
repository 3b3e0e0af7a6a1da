//! The token that lets somebody change something. I/O: it reads the file, for each request that shows one.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::config::credentials;

/// No file with a token is larger, with white space.
const MAX_FILE: u64 = 32 * 1024;
/// Files read at once: if a disk hangs, so do those who show tokens, and nobody else.
const AT_ONCE: usize = 4;

/// Where the token is.
#[derive(Clone, Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    readers: Arc<Semaphore>,
}

/// What came of a look at a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Nothing,
    Wrong,
    Right,
}

impl TokenFile {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), readers: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Compares what the request shows with what the file says now. A file that cannot be used lets nobody in.
    pub(super) async fn check(&self, headers: &HeaderMap) -> Shown {
        let shown = match bearer(headers) {
            Ok(Some(shown)) => shown.to_owned(),
            Ok(None) => return Shown::Nothing,
            Err(()) => return Shown::Wrong,
        };
        // Never closed.
        let _reader = self.readers.acquire().await;
        let path = self.path.clone();
        match spawn_blocking(move || is_equal(&path, shown.as_bytes())).await {
            Ok(Ok(true)) => Shown::Right,
            Ok(Ok(false)) => Shown::Wrong,
            Ok(Err(error)) => {
                log::warn!("admin.token_file: {}: {error}", self.path.display());
                Shown::Wrong
            }
            Err(error) => {
                log::error!("admin.token_file: {error}");
                Shown::Wrong
            }
        }
    }
}

/// What follows `Bearer` (RFC 6750 section 2.1); an error if it is another scheme, or there are two.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, ()> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(());
    }
    let text = HeaderValue::to_str(value).map_err(|_| ())?;
    let (scheme, token) = text.split_once(' ').ok_or(())?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(Some(token.trim())) } else { Err(()) }
}

/// Takes as long wherever the two differ; their lengths may show.
fn is_equal(path: &Path, shown: &[u8]) -> Result<bool, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    let token = credentials::admin_token(&bytes).map_err(|error| error.to_string())?;
    Ok(token.as_bytes().ct_eq(shown).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        headers
    }

    #[tokio::test]
    async fn only_the_files_token_is_right_and_a_new_one_counts_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let file = TokenFile::new(&path);
        let right = format!("Bearer {TOKEN}");
        assert_eq!(file.check(&headers(&[&right])).await, Shown::Wrong, "no file");
        std::fs::write(&path, format!("{TOKEN}\n")).unwrap();
        assert_eq!(file.check(&headers(&[])).await, Shown::Nothing);
        assert_eq!(file.check(&headers(&[&right])).await, Shown::Right);
        assert_eq!(file.check(&headers(&[&format!("bearer  {TOKEN} ")])).await, Shown::Right);
        let longer = format!("{right}0");
        for wrong in ["Bearer", "Bearer ", "Basic YTpi", TOKEN, &right[..right.len() - 1], &longer]
        {
            assert_eq!(file.check(&headers(&[wrong])).await, Shown::Wrong, "{wrong}");
        }
        assert_eq!(file.check(&headers(&[&right, &right])).await, Shown::Wrong);
        std::fs::write(&path, TOKEN.replace('0', "f")).unwrap();
        assert_eq!(file.check(&headers(&[&right])).await, Shown::Wrong, "it was replaced");
        std::fs::write(&path, "").unwrap();
        assert_eq!(file.check(&headers(&["Bearer "])).await, Shown::Wrong, "it is empty");
    }
}
