//! `type: auto`: what a type that is found out later brings to a node.

use super::*;

#[test]
fn a_found_type_means_what_a_written_one_means() {
    let load = |kind: &str, keys: &str| {
        let text = format!(
            "characteristics: {{ default_priority: 7, max_concurrent_requests: 3, auth: {{ types: [api_key], default_header: X-Mine }} }}
discovery: {{ static: {{ endpoints: [{{ url: 'http://a/engines', type: {kind}{keys} }}] }} }}"
        );
        World::default().load(&text).unwrap()
    };
    for keys in [
        "",
        ", priority: 100",
        ", slots: 9, health_check_url: /up",
        ", auth: { type: api_key, key: k }",
        ", auth: { type: api_key, key: k, header: X-Api-Key }",
    ] {
        let auto = load("auto", keys);
        let found = auto.profiles.find("dmr").unwrap();
        let found = auto.nodes[0].of_type(found).unwrap();
        let written = NodeConfig {
            type_is_found: true,
            unsaid: found.unsaid,
            ..load("dmr", keys).nodes.remove(0)
        };
        assert_eq!(found, written, "{keys}");
    }
    let bearer = "discovery: { static: { endpoints: [{ url: 'http://a', type: auto, auth: { type: bearer, token: t } }] } }";
    let bearer = World::default().load(bearer).unwrap().nodes.remove(0);
    let keyed = load("auto", "");
    let misfit = bearer.of_type(keyed.profiles.find("vllm").unwrap());
    assert_eq!(
        misfit.unwrap_err(),
        "a node of type `vllm` takes no credentials of the type `bearer`; use `api_key`, which its profile allows"
    );
}
