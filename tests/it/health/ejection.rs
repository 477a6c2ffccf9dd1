//! Failing requests take a node out, a trial brings it back, and the fleet bears only so much of it.

use super::*;

/// Fails gpu-0 until it is ejected, and waits for its trial.
async fn to_trial(herd: &Herd) {
    herd.nodes[0].fault_times(Fault::RstBeforeHead, 2);
    for _ in 0..2 {
        let reply = chat(herd).await.is(200);
        assert_eq!(reply.header("x-arriero-node"), Some("gpu-1"));
    }
    assert_ne!(state(herd, 0), State::Healthy);
    until_state(herd, 0, State::Trial).await;
}

#[tokio::test]
async fn an_ejected_node_comes_back_with_one_request_at_a_time() {
    let herd = pair("").await;
    to_trial(&herd).await;
    let health = "arriero_upstream_health{node=\"gpu-0\"}";
    assert_eq!(herd.metric(health).await, 1.0, "on trial it is in service");
    herd.nodes[0].pause_after(1);
    let mut first = herd.begin("/api/chat", CHAT).await;
    assert_eq!(first.head().await.expect("a head").0, 200);
    for _ in 0..3 {
        assert_eq!(served_by(&herd).await, "gpu-1");
    }
    assert_eq!(state(&herd, 0), State::Trial, "the first is under way");
    herd.nodes[0].resume();
    assert!(first.rest().await.1);
    until_state(&herd, 0, State::Healthy).await;
    assert_eq!(served_by(&herd).await, "gpu-0");
    herd.is_idle().await;
}

#[tokio::test]
async fn one_failure_ends_a_trial_and_the_next_ejection_is_longer() {
    let herd = pair("").await;
    to_trial(&herd).await;
    herd.nodes[0].fault_times(Fault::RstBeforeHead, 1);
    assert_eq!(
        chat(&herd).await.is(200).header("x-arriero-attempts"),
        Some("2")
    );
    let view = herd.gateway.gateway.fleet().view();
    let Health::Down {
        since,
        until: Some(until),
        ..
    } = view.nodes[0].health
    else {
        panic!("{:?}", view.nodes[0].health)
    };
    assert_eq!(until - since, Duration::from_millis(600), "twice 300 ms");
    until_state(&herd, 0, State::Trial).await;
    assert_eq!(served_by(&herd).await, "gpu-0");
}

#[tokio::test]
async fn a_node_on_trial_makes_the_gateway_ready() {
    let herd = pair("").await;
    to_trial(&herd).await;
    herd.nodes[1].kill();
    until_state(&herd, 1, State::Offline).await;
    herd.admin("/internal/ready").await.is(200);
    herd.admin("/internal/ready?model=llama3").await.is(200);
    let fleet = herd.gateway.gateway.fleet();
    assert!(fleet.drain("gpu-0", true));
    assert_eq!(herd.metric(&series(0, State::Draining)).await, 1.0);
    herd.admin("/internal/ready?model=llama3").await.is(503);
    let refused = chat(&herd).await.is(503);
    assert!(
        refused.text().contains("gpu-0 is draining"),
        "{}",
        refused.text()
    );
    assert!(fleet.drain("gpu-0", false));
    assert_eq!(served_by(&herd).await, "gpu-0");
}

#[tokio::test]
async fn the_last_node_that_has_a_model_is_asked_on_for_that_model_alone() {
    let nodes = vec![(llama().model("phi"), "priority: 200"), (llama(), "")];
    let herd = herd_of(nodes, "").await;
    let phi = CHAT.replace("llama3", "phi");
    herd.nodes[0].fault(Fault::RstBeforeHead);
    for _ in 0..4 {
        herd.post("/api/chat", &phi).await.is(502);
    }
    assert_eq!(state(&herd, 0), State::Healthy, "nobody else has phi");
    let refused = "arriero_ejections_refused_total{reason=\"last_holder\"}";
    assert!(0.0 < herd.metric(refused).await);
    // It fails quickly, looks idle and has the higher priority: still it is no place for what another has.
    for _ in 0..4 {
        assert_eq!(served_by(&herd).await, "gpu-1");
    }
    herd.nodes[0].clear_fault();
    herd.post("/api/chat", &phi).await.is(200);
    let view = herd.gateway.gateway.fleet().view();
    assert_eq!(view.nodes[0].spared, None);
    assert_eq!(served_by(&herd).await, "gpu-0");
}

fn count(herd: &Herd, wanted: State) -> usize {
    (0..herd.nodes.len())
        .filter(|node| state(herd, *node) == wanted)
        .count()
}

#[tokio::test]
async fn failing_requests_never_take_out_more_than_half_of_a_mixed_fleet() {
    let herd = mixed().await;
    for node in &herd.nodes {
        node.fault(Fault::RstBeforeHead);
    }
    let refused = "arriero_ejections_refused_total{reason=\"percent\"}";
    within("more ejections than the fleet bears", async {
        while herd.metric(refused).await < 5.0 {
            chat(&herd).await;
            let ejected = count(&herd, State::Ejected);
            assert!(ejected <= 2, "{ejected} of 5 are ejected");
        }
    })
    .await;
    herd.nodes.iter().for_each(demo::Node::clear_fault);
    for _ in 0..10 {
        chat(&herd).await.is(200);
    }
    within("all nodes healthy again", async {
        while count(&herd, State::Healthy) < 5 {
            chat(&herd).await.is(200);
        }
    })
    .await;
    herd.is_idle().await;
}
