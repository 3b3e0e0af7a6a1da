//! The OpenAPI document, as the tests go through it.

use serde_json::{Map, Value, json};

use crate::admin::routes::openapi::DOCUMENT;

/// One method of one path.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) method: String,
    /// As in the document, with braces.
    pub(super) path: String,
    spec: Value,
}

/// The whole document.
pub(super) fn document() -> Value {
    serde_json::from_str(DOCUMENT).unwrap()
}

/// Every operation of it.
pub(super) fn operations() -> Vec<Operation> {
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, methods)| {
        methods.as_object().unwrap().iter().map(|(method, spec)| Operation {
            method: method.to_uppercase(),
            path: path.clone(),
            spec: spec.clone(),
        })
    });
    operations.collect()
}

/// What a reference within the document stands for.
fn resolve(value: &Value) -> Value {
    match value["$ref"].as_str() {
        Some(at) => document().pointer(at.strip_prefix('#').unwrap()).unwrap().clone(),
        None => value.clone(),
    }
}

impl Operation {
    fn parameters(&self, place: &str) -> Vec<Value> {
        let all = self.spec["parameters"].as_array().cloned().unwrap_or_default();
        all.iter().map(resolve).filter(|parameter| parameter["in"] == place).collect()
    }

    /// The path with the examples of what stands in braces.
    pub(super) fn plain_path(&self) -> String {
        self.parameters("path").iter().fold(self.path.clone(), |path, parameter| {
            let name = parameter["name"].as_str().unwrap();
            path.replace(&format!("{{{name}}}"), parameter["example"].as_str().unwrap())
        })
    }

    pub(super) fn has_query(&self) -> bool {
        !self.parameters("query").is_empty()
    }

    pub(super) fn has_body(&self) -> bool {
        self.spec.get("requestBody").is_some()
    }

    /// The path and every example of the query.
    pub(super) fn target(&self) -> String {
        let query = self.parameters("query");
        // What has no example would make an endless answer.
        let given = query.iter().filter(|parameter| parameter.get("example").is_some());
        let pairs = given.map(|parameter| {
            let example = &parameter["example"];
            let value = example.as_str().map_or_else(|| example.to_string(), str::to_owned);
            format!("{}={}", parameter["name"].as_str().unwrap(), value.replace('/', "%2F"))
        });
        let query: Vec<String> = pairs.collect();
        self.plain_path() + if query.is_empty() { "" } else { "?" } + &query.join("&")
    }

    /// The example of a body, or none.
    pub(super) fn body(&self) -> String {
        let example = &self.spec["requestBody"]["content"]["application/json"]["example"];
        if example.is_null() { String::new() } else { example.to_string() }
    }

    pub(super) fn statuses(&self) -> Vec<u16> {
        let responses = self.spec["responses"].as_object().unwrap();
        responses.keys().map(|status| status.parse().unwrap()).collect()
    }

    pub(super) fn success(&self) -> u16 {
        let successes: Vec<u16> =
            self.statuses().into_iter().filter(|status| *status < 300).collect();
        assert_eq!(successes.len(), 1, "{} {}", self.method, self.path);
        successes[0]
    }

    /// Checks an answer against the schema of its status.
    #[track_caller]
    pub(super) fn check(&self, status: u16, body: &Value) {
        let name = format!("{} {} {status}", self.method, self.path);
        let response = resolve(&self.spec["responses"][status.to_string()]);
        assert!(response.is_object(), "{name} is not in the document: {body}");
        let content = response["content"].as_object().unwrap();
        // Of the lines of `events` there is one here.
        let kinds = [
            "application/json",
            "application/x-ndjson",
            "application/openmetrics-text",
            "application/vnd.tcpdump.pcap",
            "text/event-stream",
        ];
        let schema = &kinds.iter().find_map(|kind| content.get(*kind)).unwrap()["schema"];
        assert!(schema.is_object(), "{name} has no schema");
        let errors = errors(schema, body);
        assert!(errors.is_empty(), "{name}: {errors:#?}\n{body:#}");
    }

    /// The schema of its body, closed.
    pub(super) fn accepts(&self, body: &Value) -> bool {
        errors(&self.spec["requestBody"]["content"]["application/json"]["schema"], body).is_empty()
    }
}

/// What a value has against a schema, in which nothing is allowed that it does not name.
pub(super) fn errors(schema: &Value, value: &Value) -> Vec<String> {
    let mut whole = schema.clone();
    let mut components = document()["components"].clone();
    close(&mut components["schemas"]);
    close(&mut whole);
    whole["components"] = components;
    whole["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    let validator = jsonschema::validator_for(&whole).unwrap();
    validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

/// An undocumented key is an error here, though clients must bear it.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.values_mut().for_each(close);
            if object.get("properties").is_some_and(Value::is_object) {
                entry(object);
            }
        }
        Value::Array(array) => array.iter_mut().for_each(close),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn entry(object: &mut Map<String, Value>) {
    object.entry("additionalProperties").or_insert(Value::Bool(false));
}
