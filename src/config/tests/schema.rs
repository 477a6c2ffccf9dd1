//! The schema says what the readers read: files that load fit it, keys nobody reads do not.

use serde_json::{Value, json};

use super::super::check::load_with_keys;
use super::*;

fn schema_value() -> Value {
    serde_json::from_str(&schema()).unwrap()
}

/// What is wrong with a value, by the keywords that the schema uses; patterns are left to real validators, since they only
/// tell kinds of text apart.
fn faults(schema: &Value, value: &Value, at: &str, out: &mut Vec<String>) {
    let kind = kind(value);
    let fits = |name: &Value| name == kind || (name == "number" && kind == "integer");
    let legal = match &schema["type"] {
        Value::Array(names) => names.iter().any(fits),
        Value::Null => true,
        name => fits(name),
    };
    if !legal {
        out.push(format!("{at}: a {kind}"));
    }
    if let Some(number) = value.as_u64() {
        let least = schema["minimum"].as_u64().unwrap_or(0);
        let most = schema["maximum"].as_u64().unwrap_or(u64::MAX);
        if !(least..=most).contains(&number) {
            out.push(format!("{at}: {number} is out of range"));
        }
    }
    if let Value::Array(words) = &schema["enum"]
        && !words.contains(value)
    {
        out.push(format!("{at}: {value} is no word of it"));
    }
    if let Value::Array(any) = &schema["anyOf"] {
        let fits = |one: &Value| {
            let variable = value.as_str().is_some_and(|text| text.contains("${"));
            let mut wrong = Vec::new();
            faults(one, value, at, &mut wrong);
            wrong.is_empty() && (one.get("pattern").is_none() || variable)
        };
        if !any.iter().any(fits) {
            out.push(format!("{at}: fits nothing"));
        }
    }
    inside(schema, value, at, out);
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn inside(schema: &Value, value: &Value, at: &str, out: &mut Vec<String>) {
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        faults(&schema["items"], item, &format!("{at}[{index}]"), out);
    }
    for (key, item) in value.as_object().into_iter().flatten() {
        let at = format!("{at}.{key}");
        match (
            schema["properties"].get(key),
            &schema["additionalProperties"],
        ) {
            (Some(schema), _) => faults(schema, item, &at, out),
            (None, Value::Bool(false)) => out.push(format!("{at}: unknown")),
            (None, schema) => faults(schema, item, &at, out),
        }
    }
    for needed in schema["required"].as_array().into_iter().flatten() {
        if value.is_object() && needed.as_str().is_some_and(|key| value.get(key).is_none()) {
            out.push(format!("{at}: no {needed}"));
        }
    }
}

fn told(text: &str) -> Vec<String> {
    let value: Value = serde_saphyr::from_str(text).unwrap();
    let mut out = Vec::new();
    faults(&schema_value(), &value, "", &mut out);
    out
}

#[test]
fn every_file_in_conf_fits_the_schema() {
    for entry in fs::read_dir(root().join("conf")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(told(&text), Vec::<String>::new(), "{}", path.display());
    }
}

const MISTAKES: &[(&str, &str)] = &[
    ("sever: {}", ".sever: unknown"),
    ("server: []", ".server: a array"),
    (
        "server: { port: 65536 }",
        ".server.port: 65536 is out of range",
    ),
    ("server: { port: { a: 1 } }", ".server.port: a object"),
    ("server: { h2c: 1 }", ".server.h2c: a integer"),
    (
        "server: { body_timeout: 30 }",
        ".server.body_timeout: a integer",
    ),
    (
        "server: { body_timeout: 1.5 }",
        ".server.body_timeout: a number",
    ),
    (
        "proxy: { load_balancer: fast }",
        ".proxy.load_balancer: fits nothing",
    ),
    (
        "proxy: { retry: { on_status: [200] } }",
        ".proxy.retry.on_status[0]: 200 is out of range",
    ),
    (
        "server: { body_timeout: 0 }",
        ".server.body_timeout: a integer",
    ),
    (
        "server: { idle_timeout: 30 }",
        ".server.idle_timeout: 30 is out of range",
    ),
    ("resources: { foo: 1 }", ".resources.foo: unknown"),
    ("resources: []", ".resources: a array"),
    (
        "resources: { model_sizes: [{ min_memory_gb: 1 }] }",
        ".resources.model_sizes[0]: no \"patterns\"",
    ),
    (
        "resources: { concurrency_limits: [{ max_concurrent: 0 }] }",
        ".resources.concurrency_limits[0].max_concurrent: 0 is out of range",
    ),
    (
        "resources: { quantization: { multipliers: { q4: [] } } }",
        ".resources.quantization.multipliers.q4: a array",
    ),
    (
        "characteristics: { auth: { requird: true } }",
        ".characteristics.auth.requird: unknown",
    ),
    (
        "characteristics: { streaming_support: 1 }",
        ".characteristics.streaming_support: a integer",
    ),
    ("endpoints: [{ name: a }]", ".endpoints[0]: no \"url\""),
    (
        "endpoints: [{ url: a, wieght: 1 }]",
        ".endpoints[0].wieght: unknown",
    ),
    (
        "endpoints: [{ url: a, headers: { A: [b] } }]",
        ".endpoints[0].headers.A: a array",
    ),
    (
        "endpoints: [{ url: a, auth: { type: bear } }]",
        ".endpoints[0].auth.type: fits nothing",
    ),
    (
        "endpoints: [{ url: a, tags: [{ word: b }] }]",
        ".endpoints[0].tags[0]: fits nothing",
    ),
    (
        "discovery: { dns: [{ port: 1 }] }",
        ".discovery.dns[0]: no \"name\"",
    ),
    (
        "placement: { pinned: [{ copies: 1 }] }",
        ".placement.pinned[0]: no \"model\"",
    ),
    ("model_aliases: { a: b }", ".model_aliases.a: a string"),
    (
        "model_aliases: { a: [[b]] }",
        ".model_aliases.a[0]: a array",
    ),
];

#[test]
fn mistakes_do_not_fit_the_schema() {
    for (text, wrong) in MISTAKES {
        assert_eq!(told(text), [*wrong], "{text}");
        assert!(World::default().load(text).is_err(), "{text} loads");
    }
    let fitting = "
server: { port: '${PORT:-1}', h2c: '${H2C:-true}', idle_timeout: 0, request_limits: { max_body_size: 1024 } }
proxy: { load_balancer: '${HOW:-random}' }
endpoints: [{ url: a, slots: 4, tags: [b, { name: c }], auth: { type: basic, username: me, password: 0123 } }, { url: b, slots: auto }]
model_registry:
resources: { model_sizes: [{ patterns: [7b], min_memory_gb: 4.5 }], quantization: { multipliers: { q4: 0.5 } } }
characteristics: { timeout: 10m, auth: { types: [bearer] } }
";
    assert_eq!(told(fitting), Vec::<String>::new());
}

/// Paths of all keys in a schema, in the way the readers name them.
fn paths(schema: &Value, prefix: &str, out: &mut Vec<String>) {
    for (key, value) in schema["properties"].as_object().into_iter().flatten() {
        let path = if prefix.is_empty() {
            key.clone()
        } else {
            format!("{prefix}.{key}")
        };
        paths(value, &path, out);
        // The top level's endpoints are those of `discovery.static`, told twice.
        if path != "endpoints" {
            paths(&value["items"], &format!("{path}[]"), out);
        }
        out.push(path);
    }
}

#[test]
fn every_known_key_is_in_the_schema_and_explained() {
    let (_, known) = World::default().sources(None, |sources| load_with_keys(sources).unwrap());
    let schema = schema_value();
    let mut found = Vec::new();
    paths(&schema, "", &mut found);
    found.sort();
    // `{ name: word }`, which a tag may be, is no key that is read on its own.
    let known: Vec<&String> = known.forms.keys().collect();
    assert_eq!(found.iter().collect::<Vec<_>>(), known);
    let mut unexplained = Vec::new();
    without_description(&schema, "", &mut unexplained);
    assert_eq!(unexplained, Vec::<String>::new());
}

fn without_description(schema: &Value, at: &str, out: &mut Vec<String>) {
    for (key, value) in schema["properties"].as_object().into_iter().flatten() {
        let at = format!("{at}.{key}");
        if !value["description"].is_string() {
            out.push(at.clone());
        }
        without_description(value, &at, out);
        without_description(&value["items"], &at, out);
    }
}

#[test]
fn the_schema_tells_defaults_and_limits() {
    let schema = schema_value();
    let server = &schema["properties"]["server"]["properties"];
    let proxy = &schema["properties"]["proxy"]["properties"];
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    assert_eq!(server["port"]["default"], 40114);
    assert_eq!(server["idle_timeout"]["default"], "75s");
    assert_eq!(
        server["request_limits"]["properties"]["max_header_size"]["minimum"],
        4096
    );
    assert_eq!(server["h2c"]["default"], false);
    assert_eq!(proxy["load_balancer"]["default"], "adaptive");
    assert_eq!(
        proxy["load_balancer"]["anyOf"][0]["enum"],
        json!([
            "adaptive",
            "priority",
            "round-robin",
            "least-connections",
            "random"
        ])
    );
    // The program takes no `64K`, and no time that is all zeros where it must not be 0.
    assert_eq!(
        server["request_limits"]["properties"]["max_body_size"]["pattern"],
        r"^([0-9]+ *(([kKmMgG][iI]?)?[bB])?|.*\$\{.*)$"
    );
    let part = "[0-9]+(ms|s|m|h|d)";
    assert_eq!(
        server["body_timeout"]["pattern"],
        format!(r"^(({part})*0*[1-9][0-9]*(ms|s|m|h|d)({part})*|.*\$\{{.*)$")
    );
    let node = &schema["properties"]["endpoints"]["items"];
    assert_eq!(node["properties"]["slots"]["default"], "auto");
    assert_eq!(node["required"], json!(["url"]));
    assert_eq!(node["additionalProperties"], false);
}
