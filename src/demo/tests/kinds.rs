//! Servers that are not Ollama, and what nodes of every kind tell probes on cue.

use serde_json::Value;

use super::super::{Kind, ListingFault, Node};
use super::client::{Client, End, Got};

async fn get(node: &Node, path: &str) -> Got {
    Client::connect(node.addr())
        .await
        .ask("GET", path, None)
        .await
}

const LLAMA: Kind = Kind::OpenAi;
const VLLM: Kind = Kind::Vllm;
const SGLANG: Kind = Kind::SgLang;
const STUDIO: Kind = Kind::LmStudio;

/// Kind, path, status, and what stands where in the page (a JSON pointer).
const PAGES: &[(Kind, &str, u16, &str, &str)] = &[
    (LLAMA, "/health", 200, "/status", "\"ok\""),
    (LLAMA, "/v1/models", 200, "/data/0/owned_by", "\"llamacpp\""),
    (LLAMA, "/v1/models", 200, "/data/0/meta/n_ctx_train", "2048"),
    (LLAMA, "/props", 200, "/total_slots", "4"),
    (LLAMA, "/version", 404, "/error/code", "404"),
    (VLLM, "/health", 200, "", ""),
    (VLLM, "/version", 200, "/version", "\"0.11.1\""),
    (VLLM, "/v1/models", 200, "/data/0/id", "\"Org/Model-7B\""),
    (VLLM, "/v1/models", 200, "/data/0/owned_by", "\"vllm\""),
    (VLLM, "/v1/models", 200, "/data/0/root", "\"Org/Model-7B\""),
    (VLLM, "/v1/models", 200, "/data/0/max_model_len", "2048"),
    (VLLM, "/api/tags", 404, "/detail", "\"Not Found\""),
    (
        SGLANG,
        "/get_model_info",
        200,
        "/model_path",
        "\"Org/Model-7B\"",
    ),
    (SGLANG, "/v1/models", 200, "/data/0/owned_by", "\"sglang\""),
    (SGLANG, "/version", 404, "", ""),
    (
        STUDIO,
        "/v1/models",
        200,
        "/data/0/owned_by",
        "\"organization_owner\"",
    ),
    (STUDIO, "/api/v0/models", 200, "/data/0/type", "\"vlm\""),
    (
        STUDIO,
        "/api/v0/models",
        200,
        "/data/0/state",
        "\"not-loaded\"",
    ),
    (STUDIO, "/api/v0/models", 200, "/data/0/arch", "\"llama\""),
    (
        STUDIO,
        "/api/v0/models/Org/Model-7B",
        200,
        "/max_context_length",
        "2048",
    ),
    (
        STUDIO,
        "/health",
        200,
        "/error",
        "\"Unexpected endpoint or method. (GET /health)\"",
    ),
];

#[tokio::test]
async fn each_kind_has_the_pages_that_tell_it_from_the_rest() {
    for &(kind, path, status, pointer, value) in PAGES {
        let node = Node::builder()
            .kind(kind)
            .model("Org/Model-7B")
            .context("Org/Model-7B", 2048)
            .capabilities("Org/Model-7B", &["completion", "vision"])
            .slots(4);
        let got = get(&node.start().await.unwrap(), path).await;
        assert_eq!(got.status, status, "{kind:?} {path}");
        if !pointer.is_empty() {
            let page: Value = serde_json::from_str(&got.text()).unwrap();
            let found = page.pointer(pointer).unwrap().to_string();
            assert_eq!(found, value, "{kind:?} {path}");
        }
    }
}

#[tokio::test]
async fn every_kind_answers_the_openai_calls_it_lists_models_for() {
    let chat = r#"{"model":"tiny","messages":[{"role":"user","content":"x"}]}"#;
    for (kind, loads) in [
        (Kind::OpenAi, 1),
        (Kind::Vllm, 1),
        (Kind::SgLang, 1),
        (Kind::LmStudio, 0),
    ] {
        let node = Node::builder().kind(kind).model("tiny");
        let node = node.start().await.unwrap();
        assert_eq!(node.loads(), loads, "{kind:?}");
        let mut client = Client::connect(node.addr()).await;
        let got = client.ask("POST", "/v1/chat/completions", Some(chat)).await;
        assert_eq!(got.status, 200, "{kind:?}");
        assert_eq!(node.loads(), 1, "{kind:?}");
        let native = client
            .ask("POST", "/api/pull", Some(r#"{"model":"a"}"#))
            .await;
        assert!(!native.text().contains("success"), "{kind:?}");
        if kind == Kind::LmStudio {
            let page = get(&node, "/api/v0/models").await.text();
            assert!(page.contains("\"state\":\"loaded\""), "{page}");
        }
    }
}

#[tokio::test]
async fn probes_are_refused_while_calls_go_on() {
    for (kind, paths) in [
        (Kind::Ollama, ["/", "/api/tags"]),
        (Kind::Vllm, ["/health", "/v1/models"]),
    ] {
        let node = Node::builder().kind(kind).loaded("a");
        let node = node.start().await.unwrap();
        for (status, retry_after) in [(401, None), (403, None), (429, Some(7)), (500, None)] {
            node.probe_status(Some(status), retry_after);
            for path in paths {
                let got = get(&node, path).await;
                assert_eq!(got.status, status, "{path}");
                let told = retry_after.map(|s| s.to_string());
                assert_eq!(got.header("Retry-After"), told.as_deref(), "{path}");
            }
            let chat = r#"{"model":"a","messages":[{"role":"user","content":"x"}]}"#;
            let mut client = Client::connect(node.addr()).await;
            let got = client.ask("POST", "/v1/chat/completions", Some(chat)).await;
            assert_eq!(got.status, 200);
        }
        node.probe_status(None, None);
        assert_eq!(get(&node, paths[0]).await.status, 200);
    }
}

#[tokio::test]
async fn listings_go_wrong_on_cue_and_the_health_path_does_not() {
    for (kind, listing, health) in [
        (Kind::Ollama, "/api/tags", "/"),
        (Kind::Vllm, "/v1/models", "/health"),
        (Kind::LmStudio, "/api/v0/models", "/demo/seen"),
    ] {
        let node = Node::builder().kind(kind).model("a").start().await.unwrap();
        let is_listing = |text: &str| match serde_json::from_str::<Value>(text) {
            Ok(page) => page["models"].is_array() || page["data"].is_array(),
            Err(_) => false,
        };
        for (fault, end, is_list) in [
            (ListingFault::Garbage, End::Clean, false),
            (ListingFault::WrongShape, End::Clean, false),
            (ListingFault::Huge { bytes: 1 << 20 }, End::Clean, true),
            (ListingFault::Slow { ms: 1 }, End::Clean, true),
            (ListingFault::Truncated, End::Fin, false),
        ] {
            node.listing_fault(Some(fault));
            let got = get(&node, listing).await;
            assert_eq!((got.status, got.end.clone()), (200, end), "{fault:?}");
            assert_eq!(is_listing(&got.text()), is_list, "{fault:?}");
            if let ListingFault::Huge { bytes } = fault {
                assert!(bytes <= got.text().len());
            }
            assert_eq!(get(&node, health).await.status, 200, "{fault:?}");
        }
        node.listing_fault(Some(ListingFault::Never));
        let mut client = Client::connect(node.addr()).await;
        let before = node.seen().len();
        client.send("GET", listing, &[], None).await;
        node.until(|node| node.seen().len() == before + 1).await;
        drop(client);
        node.listing_fault(None);
        assert!(is_listing(&get(&node, listing).await.text()));
    }
}
