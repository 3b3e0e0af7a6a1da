//! The little of HTTP/1.1 that a measuring client needs, with nothing between it and the connection.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

use crate::netns::Netns;

/// The header in which an apiserver stand-in says its name.
pub const SERVED_BY: &str = "x-served-by";

/// A GET of `path` after which the server closes.
pub fn get(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
}

/// What an answer's head says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub status: u16,
    pub served_by: String,
    /// None: chunked, or until the end.
    pub content_length: Option<u64>,
}

/// Reads an answer's head, up to its empty line. `None`: the connection ended before it was whole.
pub async fn read_head(stream: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<Head>> {
    let mut head = Head::default();
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let text = line.trim_end();
        if text.is_empty() {
            return Ok(Some(head));
        }
        if let Some(rest) = text.strip_prefix("HTTP/1.1 ") {
            head.status = rest.split(' ').next().and_then(|code| code.parse().ok()).unwrap_or(0);
        } else if let Some((name, value)) = text.split_once(':') {
            let value = value.trim();
            if name.eq_ignore_ascii_case(SERVED_BY) {
                value.clone_into(&mut head.served_by);
            } else if name.eq_ignore_ascii_case("content-length") {
                head.content_length = value.parse().ok();
            }
        }
    }
}

/// Reads an answer with a known length; `None`: it ended early.
pub async fn read_answer(
    stream: &mut (impl AsyncBufRead + Unpin),
) -> std::io::Result<Option<(Head, Vec<u8>)>> {
    let Some(head) = read_head(stream).await? else {
        return Ok(None);
    };
    let length = head.content_length.unwrap_or(0);
    let mut body = Vec::new();
    stream.take(length).read_to_end(&mut body).await?;
    Ok((body.len() as u64 == length).then_some((head, body)))
}

/// One plain request from inside a namespace, blocking; the body of its answer.
pub fn request_inside(
    netns: &Netns,
    target: SocketAddr,
    method: &str,
    path: &str,
) -> Result<String> {
    const TIMEOUT: Duration = Duration::from_secs(3);
    let answer = netns.on_thread(|| {
        let mut stream = std::net::TcpStream::connect_timeout(&target, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {target}\r\nconnection: close\r\n\
             content-length: 0\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    });
    let answer = answer.with_context(|| format!("{method} {path} at {target}"))?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 2") => Ok(body.to_owned()),
        Some(_) | None => bail!("{method} {path} at {target}: {answer}"),
    }
}
