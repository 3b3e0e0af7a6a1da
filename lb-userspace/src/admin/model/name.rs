//! What is known of a DNS name in the configuration. Pure.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::rfc3339;
use crate::resolve::{Answer, Question};

/// A name in one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    pub host: String,
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// Of the last answer that had any.
    pub addresses: Vec<IpAddr>,
    /// Why the last lookup brought nothing; absent: it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// When any of this last changed.
    pub since: String,
}

impl Name {
    pub fn new(question: &Question, answer: &Answer) -> Self {
        Self {
            host: question.host.clone(),
            family: question.family.to_string(),
            addresses: answer.addresses.clone(),
            failure: answer.failure.as_ref().map(ToString::to_string),
            since: rfc3339(answer.since),
        }
    }
}
