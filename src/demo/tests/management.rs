//! Pull, push, create, copy and delete, whole and cut short; what models say of themselves.

use serde_json::{Value, json};

use super::super::{Fault, Node};
use super::client::{Client, End, Got};

async fn ask(node: &Node, method: &str, path: &str, body: &Value) -> Got {
    let mut client = Client::connect(node.addr()).await;
    client.ask(method, path, Some(&body.to_string())).await
}

async fn post(node: &Node, path: &str, body: Value) -> Got {
    ask(node, "POST", path, &body).await
}

async fn page(node: &Node, path: &str) -> Value {
    let mut client = Client::connect(node.addr()).await;
    let got = client.ask("GET", path, None).await;
    serde_json::from_str(&got.text()).unwrap()
}

/// The `status` of every line, or its `error`.
fn statuses(got: &Got) -> Vec<String> {
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let told = line.get("status").or(line.get("error")).unwrap();
        told.as_str().unwrap().to_owned()
    };
    got.text().lines().map(line).collect()
}

async fn names(node: &Node, path: &str) -> Vec<String> {
    let page = page(node, path).await;
    let models = page["models"].as_array().unwrap().iter();
    let mut names: Vec<String> = models
        .map(|m| m["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_pull_tells_how_far_it_is_and_installs_the_same_on_every_node() {
    let (a, b) = (
        Node::builder().pull_steps(2).start().await.unwrap(),
        Node::builder().loaded("llama3").start().await.unwrap(),
    );
    let got = post(
        &a,
        "/api/pull",
        json!({"model": "llama3", "insecure": true}),
    )
    .await;
    let lines: Vec<&str> = got.chunks.iter().map(String::as_str).collect();
    assert_eq!(lines.len(), 7, "{lines:?}");
    assert_eq!(lines[0], "{\"status\":\"pulling manifest\"}\n");
    let weights: Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!(weights["total"], 2_000_000_000);
    assert_eq!(weights["completed"], 1_000_000_000);
    let digest = weights["digest"].as_str().unwrap();
    let short = format!("pulling {}", &digest["sha256:".len()..][..12]);
    assert_eq!(weights["status"], short.as_str());
    let small: Value = serde_json::from_str(lines[3]).unwrap();
    assert_eq!(
        (&small["total"], small.get("completed")),
        (&json!(29), None)
    );
    assert_eq!(
        statuses(&got)[4..],
        ["verifying sha256 digest", "writing manifest", "success"]
    );
    assert_eq!(a.installed(), ["llama3:latest"]);
    let digest = async |node| page(node, "/api/tags").await["models"][0]["digest"].clone();
    assert_eq!(digest(&a).await, digest(&b).await);
    let again = post(
        &a,
        "/api/pull",
        json!({"name": "LLAMA3:latest", "stream": false}),
    )
    .await;
    assert_eq!(again.text(), r#"{"status":"success"}"#);
    assert_eq!(a.installed(), ["LLAMA3:latest"], "not a second time");
}

#[tokio::test]
async fn what_the_registry_does_not_have_fails_in_its_own_way() {
    let node = Node::builder().registry(&["a"]).start().await.unwrap();
    let got = post(&node, "/api/pull", json!({"model": "b"})).await;
    let told = "pull model manifest: file does not exist";
    assert_eq!(got.status, 200);
    assert_eq!(statuses(&got), ["pulling manifest", told]);
    let got = post(&node, "/api/pull", json!({"model": "b", "stream": false})).await;
    assert_eq!(got.status, 500);
    assert_eq!(got.text(), format!("{{\"error\":\"{told}\"}}"));
    assert_eq!(
        post(&node, "/api/pull", json!({"model": "A"})).await.end,
        End::Clean
    );
    assert_eq!(node.installed(), ["A:latest"]);
}

#[tokio::test]
async fn a_held_pull_ends_when_its_client_leaves() {
    let node = Node::builder().start().await.unwrap();
    node.hold_pulls();
    for stream in [true, false] {
        let mut client = Client::connect(node.addr()).await;
        let body = json!({"model": "a", "stream": stream}).to_string();
        client.send("POST", "/api/pull", &[], Some(&body)).await;
        node.until(|node| node.pulling() == 1).await;
        if stream {
            // Head, first line and first progress line.
            client.peek(300).await;
        }
        drop(client);
        node.until(|node| node.pulling() == 0).await;
    }
    assert!(node.installed().is_empty());
    let mut client = Client::connect(node.addr()).await;
    client
        .send("POST", "/api/pull", &[], Some(r#"{"model":"a"}"#))
        .await;
    node.until(|node| node.pulling() == 1).await;
    node.release_pulls();
    let got = client.answer(false).await;
    assert_eq!(statuses(&got).last().unwrap(), "success");
    assert_eq!(node.pulling(), 0);
}

#[tokio::test]
async fn a_pull_that_is_cut_short_installs_nothing() {
    let node = Node::builder().start().await.unwrap();
    for (fault, end, last) in [
        (Fault::RstAfter { after: 2 }, End::Reset, None),
        (Fault::FinAfter { after: 2 }, End::Fin, None),
        (Fault::BadChunk { after: 2 }, End::Broken, None),
        (
            Fault::RunnerDies { after: 2 },
            End::Clean,
            Some("max retries exceeded: unexpected EOF"),
        ),
        (
            Fault::Stuck { after: 1 },
            End::Clean,
            Some("pulling manifest"),
        ),
    ] {
        node.fault_times(fault.clone(), 1);
        let got = post(&node, "/api/pull", json!({"model": "a"})).await;
        assert_eq!((got.status, got.end.clone()), (200, end), "{fault:?}");
        if let Some(last) = last {
            assert_eq!(statuses(&got).last().unwrap(), last, "{fault:?}");
        }
        assert!(node.installed().is_empty(), "{fault:?}");
    }
}

#[tokio::test]
async fn a_push_tells_its_layers_and_misses_what_is_not_there() {
    let node = Node::builder().model("user/a").start().await.unwrap();
    let got = post(&node, "/api/push", json!({"name": "user/a"})).await;
    let told = statuses(&got);
    assert_eq!(told[0], "retrieving manifest");
    assert!(told[1].starts_with("pushing "), "{told:?}");
    assert_eq!(told[told.len() - 2..], ["pushing manifest", "success"]);
    let missing = json!({"model": "user/b", "stream": false});
    let got = post(&node, "/api/push", missing).await;
    assert_eq!(got.status, 500);
    assert_eq!(
        got.text(),
        "{\"error\":\"open /root/.ollama/models/manifests/registry.ollama.ai/user/b/latest: no such file or directory\"}"
    );
    assert_eq!(post(&node, "/api/push", json!({})).await.status, 400);
}

#[tokio::test]
async fn models_are_created_from_others_and_from_files() {
    let node = Node::builder().model("a").registry(&["far"]).start();
    let node = node.await.unwrap();
    let digest = async |name: &str| {
        let tags = page(&node, "/api/tags").await;
        let models = tags["models"].as_array().unwrap().clone();
        let model = models.into_iter().find(|m| m["name"] == name);
        model.map(|m| m["digest"].clone())
    };
    for (body, first, is_there) in [
        (
            json!({"model": "same", "from": "a"}),
            "using existing layer sha256:",
            true,
        ),
        (
            json!({"model": "poet", "from": "a", "system": "Rhyme."}),
            "using existing layer sha256:",
            true,
        ),
        (
            json!({"model": "near", "from": "far"}),
            "pulling manifest",
            true,
        ),
        (
            json!({"model": "none", "from": "farther"}),
            "pulling manifest",
            false,
        ),
        (
            json!({"model": "lost", "files": {"x.gguf": format!("sha256:{}", "0".repeat(64))}}),
            "parsing GGUF",
            false,
        ),
        (
            json!({"model": "odd", "files": {"x.gguf": "foo"}}),
            "parsing GGUF",
            false,
        ),
    ] {
        let got = post(&node, "/api/create", body.clone()).await;
        let told = statuses(&got);
        assert!(told[0].starts_with(first), "{told:?}");
        assert_eq!(told.last().unwrap() == "success", is_there, "{told:?}");
        let successes = told.iter().filter(|t| *t == "success").count();
        assert_eq!(successes, usize::from(is_there), "{told:?}");
        let name = format!("{}:latest", body["model"].as_str().unwrap());
        assert_eq!(digest(&name).await.is_some(), is_there, "{name}");
    }
    assert_eq!(digest("same:latest").await, digest("a:latest").await);
    assert_ne!(digest("poet:latest").await, digest("a:latest").await);
    assert!(node.installed().contains(&"far:latest".to_owned()));
    let refused = post(&node, "/api/create", json!({"model": "x"})).await;
    assert_eq!(refused.status, 400);
}

#[tokio::test]
async fn copies_share_the_memory_and_a_deleted_model_stays_in_it() {
    let node = Node::builder().loaded("a").start().await.unwrap();
    let copy = json!({"source": "a", "destination": "house"});
    let got = post(&node, "/api/copy", copy).await;
    assert_eq!((got.status, got.text().as_str()), (200, ""));
    let chat = json!({"model": "house", "messages": [{"role": "user", "content": "x"}]});
    assert_eq!(post(&node, "/api/chat", chat).await.status, 200);
    assert_eq!(node.loads(), 1);
    assert_eq!(names(&node, "/api/ps").await, ["a:latest"]);
    let got = ask(&node, "DELETE", "/api/delete", &json!({"name": "a"})).await;
    assert_eq!((got.status, got.text().as_str()), (200, ""));
    assert_eq!(names(&node, "/api/tags").await, ["house:latest"]);
    assert_eq!(names(&node, "/api/ps").await, ["a:latest"]);
    let unload = json!({"model": "house", "prompt": "", "keep_alive": "0s"});
    let got = post(&node, "/api/generate", unload).await;
    assert!(
        got.text().contains("\"done_reason\":\"unload\""),
        "{}",
        got.text()
    );
    assert!(names(&node, "/api/ps").await.is_empty());
}

#[tokio::test]
async fn a_model_removed_at_the_node_leaves_disk_and_memory() {
    let node = Node::builder()
        .loaded("a")
        .model("b")
        .start()
        .await
        .unwrap();
    node.uninstall("A");
    node.uninstall("never there");
    assert_eq!(node.installed(), ["b:latest"]);
    assert!(names(&node, "/api/ps").await.is_empty());
}

#[tokio::test]
async fn models_say_of_themselves_what_they_were_told_to() {
    let digest = "ab".repeat(32);
    let node = Node::builder()
        .loaded("eye")
        .details("eye", "qwen3vl", "8.2B", "Q8_0")
        .capabilities("EYE:latest", &["completion", "vision"])
        .context("eye", 2048)
        .digest("eye", &digest)
        .start()
        .await
        .unwrap();
    let tag = page(&node, "/api/tags").await["models"][0].clone();
    assert_eq!(tag["digest"], digest.as_str());
    assert_eq!(tag["size"], 9_225_000_000_u64);
    assert_eq!(tag["details"]["context_length"], 2048);
    assert_eq!(
        page(&node, "/api/ps").await["models"][0]["context_length"],
        2048
    );
    let shown = post(&node, "/api/show", json!({"name": "eye"}))
        .await
        .text();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    for page in [&tag, &shown] {
        assert_eq!(page["capabilities"], json!(["completion", "vision"]));
        assert_eq!(page["details"]["family"], "qwen3vl");
        assert_eq!(page["details"]["parameter_size"], "8.2B");
        assert_eq!(page["details"]["quantization_level"], "Q8_0");
    }
    assert_eq!(shown["model_info"]["general.architecture"], "qwen3vl");
    assert_eq!(shown["model_info"]["qwen3vl.context_length"], 2048);
}

#[tokio::test]
async fn old_nodes_list_less() {
    for (version, tells) in [
        ("0.24.0", false),
        ("0.30.0", true),
        ("1.0", true),
        ("dev", true),
    ] {
        let node = Node::builder().model("a").version(version).start();
        let tags = page(&node.await.unwrap(), "/api/tags").await;
        let tag = &tags["models"][0];
        assert_eq!(tag.get("capabilities").is_some(), tells, "{version}");
        assert_eq!(
            tag["details"].get("context_length").is_some(),
            tells,
            "{version}"
        );
        assert_eq!(tag["details"]["family"], "llama");
    }
}

#[tokio::test]
async fn a_model_refuses_what_it_was_told_it_cannot() {
    let all = ["completion", "tools", "thinking", "vision"];
    let node = Node::builder().model("plain").model("able").model("untold");
    let node = node
        .capabilities("plain", &all[..1])
        .capabilities("able", &all);
    let node = node.start().await.unwrap();
    let blind = "model does not support multimodal requests";
    let tools = json!([{"type": "function", "function": {"name": "weather"}}]);
    for (path, member, value, told) in [
        (
            "/api/chat",
            "tools",
            tools.clone(),
            "registry.ollama.ai/library/plain:latest does not support tools",
        ),
        (
            "/v1/chat/completions",
            "tools",
            tools,
            "does not support tools",
        ),
        (
            "/api/chat",
            "think",
            json!("high"),
            "\\\"plain\\\" does not support thinking",
        ),
        ("/api/chat", "think", json!(false), ""),
        ("/api/chat", "tools", json!([]), ""),
        (
            "/api/chat",
            "messages",
            json!([{"role": "user", "content": "x", "images": ["aGVyZA=="]}]),
            blind,
        ),
        ("/api/generate", "images", json!(["aGVyZA=="]), blind),
        (
            "/v1/chat/completions",
            "messages",
            json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]),
            blind,
        ),
    ] {
        for model in ["plain", "able", "untold"] {
            let mut body = json!({"model": model, "prompt": "x", "stream": false, "messages": [{"role": "user", "content": "x"}]});
            body[member] = value.clone();
            let got = post(&node, path, body).await;
            let refuses = model == "plain" && !told.is_empty();
            let status = if refuses { 400 } else { 200 };
            assert_eq!(
                got.status,
                status,
                "{model} {path} {member}: {}",
                got.text()
            );
            assert!(!refuses || got.text().contains(told), "{}", got.text());
        }
    }
}
