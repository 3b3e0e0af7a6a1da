//! Who is told of events. Pure.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde_saphyr::Spanned;

use super::super::notify::{Action, Target, Url};
use super::reader::Reader;
use super::scalar;
use super::{Content, NotifyFile, Spot};
use crate::admin::model::Kind;

const MAX_TARGETS: usize = 32;
const MAX_WORDS: usize = 64;
const TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUTS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
const RETRIES: RangeInclusive<u32> = 0..=10;
const DEFAULT_RETRIES: u32 = 3;
const QUEUE: RangeInclusive<u32> = 1..=4096;
const DEFAULT_QUEUE: u32 = 256;
/// Where Debian keeps the CAs of the world.
const DEFAULT_CA: &str = "/etc/ssl/certs/ca-certificates.crt";

impl Reader<'_> {
    pub(super) fn notify(
        &mut self,
        root: &Spot,
        list: Option<&Spanned<Vec<Spanned<NotifyFile>>>>,
    ) -> Vec<Target> {
        let Some(list) = list else { return Vec::new() };
        let scope = root.of("notify", list);
        if list.value.len() > MAX_TARGETS {
            let count = list.value.len();
            self.wrong(&scope, format_args!("{count} are too many; keep at most {MAX_TARGETS}"));
            return Vec::new();
        }
        let files = list.value.iter().enumerate();
        files
            .filter_map(|(index, file)| self.target(&scope.element(index, file), &file.value))
            .collect()
    }

    fn target(&mut self, scope: &Spot, file: &NotifyFile) -> Option<Target> {
        let events = self.kinds(scope, file);
        let NotifyFile { timeout, queue, .. } = file;
        let timeout = self.duration(&scope.field("timeout", timeout), timeout, &TIMEOUTS, TIMEOUT);
        let queue = self.number(&scope.field("queue", queue), queue, &QUEUE, DEFAULT_QUEUE);
        let action = match (&file.exec, &file.webhook) {
            (Some(exec), None) => self.exec(scope, file, exec),
            (None, Some(webhook)) => self.webhook(scope, file, webhook),
            (Some(_), Some(webhook)) => {
                self.wrong(
                    &scope.of("webhook", webhook),
                    "exec is there too; write two entries, one with each",
                );
                None
            }
            (None, None) => {
                self.missing(
                    scope,
                    "exec",
                    "`exec: [/path/of/a/program]`, or `webhook: https://...`",
                );
                None
            }
        };
        Some(Target { events, action: action?, timeout, queue })
    }

    fn kinds(&mut self, scope: &Spot, file: &NotifyFile) -> BTreeSet<Kind> {
        let Some(list) = &file.events else {
            return Kind::CHOICES.into();
        };
        let scope = scope.of("events", list);
        if list.value.is_empty() {
            self.wrong(&scope, "is empty, so nothing would be told; name some, or remove the key");
        }
        let choices = Kind::CHOICES.map(|kind| (kind.as_str(), kind));
        let mut kinds = BTreeSet::new();
        for (index, word) in list.value.iter().enumerate() {
            let spot = scope.element(index, word);
            let Some(kind) = self.accept(&spot, scalar::choice(&word.value, &choices)) else {
                continue;
            };
            if !kinds.insert(kind) {
                let kind = kind.as_str();
                self.wrong(
                    &spot,
                    format_args!("{kind} is in the list already; remove one of the two"),
                );
            }
        }
        kinds
    }

    fn exec(
        &mut self,
        scope: &Spot,
        file: &NotifyFile,
        words: &Spanned<Vec<Spanned<String>>>,
    ) -> Option<Action> {
        let spot = scope.of("exec", words);
        for (key, field) in [
            ("token_file", &file.token_file),
            ("ca_file", &file.ca_file),
            ("insecure_skip_verify", &file.insecure_skip_verify),
            ("retries", &file.retries),
        ] {
            if let Some(field) = field {
                self.wrong(&scope.of(key, field), "is for a webhook; remove it");
            }
        }
        let Some(program) = words.value.first() else {
            self.wrong(&spot, "is empty; write a program and its arguments: [/path/of/it, word]");
            return None;
        };
        if words.value.len() > MAX_WORDS {
            self.wrong(&spot, format_args!("is too long; write at most {MAX_WORDS} words"));
        }
        for (index, word) in words.value.iter().enumerate() {
            if word.value.contains('\0') {
                self.wrong(&spot.element(index, word), "has a zero byte; remove it");
            }
        }
        self.file(
            spot.element(0, program),
            &program.value,
            "/usr/local/bin/page",
            Content::Program,
        );
        Some(Action::Exec { exec: words.value.iter().map(|word| word.value.clone()).collect() })
    }

    fn webhook(
        &mut self,
        scope: &Spot,
        file: &NotifyFile,
        text: &Spanned<String>,
    ) -> Option<Action> {
        let retries = self.number(
            &scope.field("retries", &file.retries),
            &file.retries,
            &RETRIES,
            DEFAULT_RETRIES,
        );
        let token_file = file.token_file.as_ref().map(|token| {
            let example = "/etc/fairlead/webhook.token";
            self.file(scope.of("token_file", token), &token.value, example, Content::Token)
        });
        let Some(webhook) = Url::parse(&text.value) else {
            // Not quoted: it may be secret.
            self.wrong(
                &scope.of("webhook", text),
                "is no URL of a host; write one such as https://alerts.example/fairlead, without a \
                 user: a token belongs into token_file",
            );
            return None;
        };
        let ca_file = self.webhook_ca(scope, file, &webhook);
        Some(Action::Webhook { webhook, token_file, ca_file, retries })
    }

    fn webhook_ca(&mut self, scope: &Spot, file: &NotifyFile, webhook: &Url) -> Option<PathBuf> {
        let skip = &file.insecure_skip_verify;
        let is_insecure = self.boolean(&scope.field("insecure_skip_verify", skip), skip);
        if !webhook.is_tls() {
            for (key, field) in [("ca_file", &file.ca_file), ("insecure_skip_verify", skip)] {
                if let Some(field) = field {
                    self.wrong(&scope.of(key, field), "is for https; remove it, or write https://");
                }
            }
            return None;
        }
        match (&file.ca_file, is_insecure) {
            (Some(ca), false) => {
                Some(self.file(scope.of("ca_file", ca), &ca.value, DEFAULT_CA, Content::Ca))
            }
            (None, false) => {
                let spot = scope.key("ca_file");
                Some(self.file(spot, DEFAULT_CA, DEFAULT_CA, Content::Ca))
            }
            (Some(ca), true) => {
                self.wrong(
                    &scope.of("ca_file", ca),
                    "insecure_skip_verify is there too; keep one of the two",
                );
                None
            }
            (None, true) => None,
        }
    }
}
