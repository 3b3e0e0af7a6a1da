//! What the apiservers answer from here. Pure.

use jiff::Timestamp;

use super::super::facts::apiservers::{Apiserver, Apiservers, Certificate, CertificateFile};
use super::super::finding::Finding;
use crate::health::{Class, Verdict};

const DAY: i64 = 24 * 3600;
/// kubeadm renews at an upgrade, and warns this early too.
const SOON: i64 = 30 * DAY;
/// Clocks that differ by more are not kept by NTP; `Date` has seconds only.
const TOLERABLE_MS: u64 = 2500;
/// From here on tokens and new certificates fail.
const FAR_MS: u64 = 60_000;
/// Of one kind that are said one by one.
const MOST_SAID: usize = 8;

pub(super) fn judge(apiservers: &Apiservers) -> Vec<Finding> {
    let Apiservers { answers, left_out, files, now } = apiservers;
    let mut found = listed(answers.iter().map(ready), "answer as they should");
    let certificates = answers.iter().filter_map(|it| certificate(it, *now));
    found.extend(listed(certificates, "show a certificate that is valid for long enough"));
    found.extend(listed(answers.iter().filter_map(clock), "agree with this machine's clock"));
    found.extend(files.iter().flat_map(|file| self::file(file, *now)));
    if *left_out > 0 {
        found.push(
            Finding::info(
                "apiserver.ready",
                format!("{left_out} backends were not asked, or had no time to answer"),
            )
            .because("all of this is to take a few seconds"),
        );
    }
    found
}

/// Those that are fine are counted, of the others some are said.
fn listed(
    findings: impl Iterator<Item = Result<&'static str, Finding>>,
    fine: &str,
) -> Vec<Finding> {
    let (mut said, mut count, mut id) = (Vec::new(), 0, None);
    for finding in findings {
        match finding {
            Ok(of) => {
                count += 1;
                id = Some(of);
            }
            Err(finding) => said.push(finding),
        }
    }
    said.sort_by_key(|finding| finding.severity);
    let more = said.len().saturating_sub(MOST_SAID);
    said.truncate(MOST_SAID);
    if let Some(last) = said.last_mut().filter(|_| more > 0) {
        last.what += &format!(" (and {more} more)");
    }
    said.extend(id.map(|id| Finding::ok(id, format!("{count} backends {fine}"))));
    said
}

fn name(it: &Apiserver) -> String {
    format!("{}/{} ({})", it.service, it.backend, it.endpoint)
}

fn ready(it: &Apiserver) -> Result<&'static str, Finding> {
    const ID: &str = "apiserver.ready";
    let (who, reason) = (name(it), &it.found.reason);
    let curl = format!("curl -vk https://{}/readyz?verbose", it.endpoint);
    Err(match it.found.verdict {
        Verdict::Ready => return Ok(ID),
        Verdict::Unverified => Finding::warning(ID, format!("{who} hides its health: {reason}"))
            .because("it is used, whether it is ready or not: that it shuts down is not noticed")
            .fix("client_cert_file: …, client_key_file: …     # in `health`, or token_file")
            .fix("# or let anonymous requests ask for /readyz and /livez (system:public-info-viewer)"),
        Verdict::Degraded | Verdict::NotReady => {
            Finding::warning(ID, format!("{who} is not well: {reason}"))
                .because("it gets no new connections as long as others are up")
                .fix(curl)
        }
        Verdict::Failed(Class::Local) => {
            Finding::warning(ID, format!("{who} could not be asked: {reason}"))
                .because("the trouble is this machine's; it says nothing about the apiserver")
        }
        Verdict::Failed(Class::Certificate) => {
            Finding::problem(ID, format!("{who} is not believed: {reason}"))
                .because("one whose certificate does not verify is taken out")
                .fix("ca_file: …, server_name: …     # in `health`; are they this cluster's?")
        }
        Verdict::Failed(Class::Refused | Class::Timeout) => {
            Finding::problem(ID, format!("{who} does not answer: {reason}"))
                .because("it gets no connections; its process, the port, or a filter on the way")
                .fix(curl)
        }
        Verdict::Failed(Class::Status | Class::Protocol) => {
            Finding::problem(ID, format!("{who} answers otherwise than expected: {reason}"))
                .because("it gets no connections")
                .fix(curl)
        }
    })
}

fn certificate(it: &Apiserver, now: Timestamp) -> Option<Result<&'static str, Finding>> {
    const ID: &str = "apiserver.certificate";
    let found = match it.certificate.as_ref()? {
        Ok(certificate) => {
            expiry(ID, &format!("the certificate of {}", name(it)), certificate, now)
        }
        Err(error) => {
            Some(Finding::unknown(ID, &format!("the certificate of {}", name(it)), error))
        }
    };
    Some(match found {
        None => Ok(ID),
        Some(found) => Err(found
            .fix("kubeadm certs check-expiration     # on that apiserver")
            .fix("kubeadm certs renew apiserver     # then restart its static pod")),
    })
}

/// `None`: it is valid for long enough.
fn expiry(
    id: &'static str,
    what: &str,
    certificate: &Certificate,
    now: Timestamp,
) -> Option<Finding> {
    let left = certificate.not_after.as_second() - now.as_second();
    if now < certificate.not_before {
        return Some(
            Finding::problem(id, format!("{what} is not valid before {}", certificate.not_before))
                .because("nobody who verifies it connects; is this machine's clock right?"),
        );
    }
    if left <= 0 {
        return Some(
            Finding::problem(id, format!("{what} has expired on {}", certificate.not_after))
                .because("nobody who verifies it connects: neither clients nor probes"),
        );
    }
    (left < SOON).then(|| {
        Finding::warning(
            id,
            format!("{what} expires in {} days, on {}", left / DAY, certificate.not_after),
        )
        .because("after that nobody who verifies it connects")
    })
}

fn clock(it: &Apiserver) -> Option<Result<&'static str, Finding>> {
    const ID: &str = "apiserver.clock";
    let ahead = it.ahead_ms?;
    if ahead.unsigned_abs() <= TOLERABLE_MS {
        return Some(Ok(ID));
    }
    let seconds = ahead.unsigned_abs().div_ceil(1000);
    let direction = if ahead > 0 { "ahead of" } else { "behind" };
    let what = format!("the clock of {} is {seconds} s {direction} this machine's", name(it));
    let finding = if ahead.unsigned_abs() > FAR_MS {
        Finding::problem(ID, what)
            .because("tokens and new certificates are refused as not valid yet, or as expired")
    } else {
        Finding::warning(ID, what)
            .because("logs cannot be compared, and etcd and tokens want clocks that agree")
    };
    Some(Err(finding.fix("timedatectl     # on both")))
}

fn file(file: &CertificateFile, now: Timestamp) -> Vec<Finding> {
    const ID: &str = "file.certificate";
    let path = file.path.display();
    let certificates = match &file.certificates {
        Err(error) => return vec![Finding::unknown(ID, &path.to_string(), error)],
        Ok(certificates) => certificates,
    };
    let fault = |it: &Certificate| expiry(ID, &format!("{} in {path}", it.subject), it, now);
    let mut found: Vec<Finding> = certificates.iter().filter_map(fault).take(MOST_SAID).collect();
    // Of several CAs, as in a rotation, the others may do.
    if found.len() < certificates.len() {
        found
            .iter_mut()
            .for_each(|it| it.severity = it.severity.max(crate::doctor::Severity::Warning));
    }
    if found.is_empty() {
        found
            .push(Finding::ok(ID, format!("the certificates in {path} are valid for long enough")));
    }
    found
}

#[cfg(test)]
mod tests;
