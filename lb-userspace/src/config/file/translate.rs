//! The document as a whole: everything that is not of one service. Pure.

use std::path::Path;

use serde_saphyr::Spanned;

use super::super::error::ConfigError;
use super::super::{Config, Limits, Service, XdpMode};
use super::reader::Reader;
use super::scalar::quoted;
use super::{Document, LimitsFile, Reference, Spot, scalar};

const FLOWS: std::ops::RangeInclusive<u32> = 1024..=16_777_216;

pub(super) fn translate(
    document: &Document,
    name: &Path,
) -> Result<(Config, Vec<Reference>), ConfigError> {
    let mut reader = Reader::new(name);
    let root = Spot::root();
    reader.version(&root, document);
    let interfaces = reader.interfaces(&root, document);
    let xdp_mode = reader
        .choice(
            &root.field("xdp_mode", &document.xdp_mode),
            &document.xdp_mode,
            &[("auto", XdpMode::Auto), ("native", XdpMode::Native), ("generic", XdpMode::Generic)],
        )
        .unwrap_or_default();
    let replace_xdp = root.field("replace_xdp", &document.replace_xdp);
    let replace_xdp = reader.boolean(&replace_xdp, &document.replace_xdp);
    let limits = reader.limits(&root, document.limits.as_ref());
    let services = reader.services(&root, document);
    let vrrp = reader.vrrp(&root, document);
    let sync = reader.sync(&root, document.sync.as_ref(), &services, &vrrp);
    let local_clients = reader.local_clients(&root, document.local_clients.as_ref());
    let flow_log = reader.flow_log(&root, document.flow_log.as_ref());
    let notify = reader.notify(&root, document.notify.as_ref());
    let admin = reader.admin(&root, document.admin.as_ref(), &services, &vrrp);
    let references = reader.finish()?;
    let config = Config {
        interfaces,
        xdp_mode,
        replace_xdp,
        limits,
        services,
        vrrp,
        sync,
        local_clients,
        flow_log,
        notify,
        admin,
    };
    Ok((config, references))
}

impl Reader<'_> {
    fn version(&mut self, root: &Spot, document: &Document) {
        let Some(version) = &document.version else {
            return;
        };
        if version.value != "1" {
            self.wrong(
                &root.of("version", version),
                format_args!(
                    "{} is not a known version; write 1, the only one so far",
                    quoted(&version.value)
                ),
            );
        }
    }

    fn interfaces(&mut self, root: &Spot, document: &Document) -> Vec<String> {
        let Some(list) = &document.interfaces else {
            return Vec::new();
        };
        let scope = root.of("interfaces", list);
        let mut interfaces = Vec::new();
        for (index, value) in list.value.iter().enumerate() {
            let spot = scope.element(index, value);
            let Some(interface) = self.accept(&spot, scalar::interface(&value.value)) else {
                continue;
            };
            if interfaces.contains(&interface) {
                self.wrong(
                    &spot,
                    format_args!("{interface} is in the list already; remove one of the two"),
                );
            } else {
                interfaces.push(interface);
            }
        }
        interfaces
    }

    fn limits(&mut self, root: &Spot, file: Option<&Spanned<LimitsFile>>) -> Limits {
        let default = Limits::default();
        let Some(file) = file else { return default };
        let scope = root.of("limits", file);
        let LimitsFile { flows, half_open } = &file.value;
        Limits {
            flows: self.number(&scope.field("flows", flows), flows, &FLOWS, default.flows),
            half_open: self.number(
                &scope.field("half_open", half_open),
                half_open,
                &FLOWS,
                default.half_open,
            ),
        }
    }

    fn services(&mut self, root: &Spot, document: &Document) -> Vec<Service> {
        let example = "a list with one service: its name, vips, port and backends";
        let Some(list) = &document.services else {
            self.missing(root, "services", example);
            return Vec::new();
        };
        let scope = root.of("services", list);
        if list.value.is_empty() {
            self.wrong(&scope, format_args!("is empty; write {example}"));
        }
        let mut services: Vec<Service> = Vec::new();
        for (index, file) in list.value.iter().enumerate() {
            let service = self.service(&scope.element(index, file), &file.value);
            services.push(service);
        }
        self.clashes(&scope, &list.value);
        services
    }
}
