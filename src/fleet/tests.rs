//! The fleet as its users see it: what a view shows after an observation.

use super::fixture::{Herd, LIMITS, herd, installed, loaded, ollama};
use super::*;
use crate::dialect::Format;
use crate::model::ModelKey;

mod leases;

fn warm_on(view: &Snapshot, model: &str) -> Option<Vec<(usize, bool)>> {
    let holders = view.holders(&ModelKey::parse(model).unwrap())?;
    Some(
        holders
            .iter()
            .map(|holder| (holder.node.0, holder.warm))
            .collect(),
    )
}

#[test]
fn a_model_is_warm_by_digest_then_by_name_and_always_on_openai_servers() {
    let Herd { fleet, .. } = herd(
        "a up 0/4 llama* copy other
         b up 0/4 LLAMA:latest
         v@vllm up 0/4 llama",
    );
    assert_eq!(
        warm_on(&fleet.view(), "llama").unwrap(),
        [(0, true), (1, false), (2, true)]
    );
    // A copy shares the digest, and so the runner, of the model that is listed.
    let body = br#"{"models":[{"name":"llama","digest":"1"},{"name":"copy","digest":"1"},{"name":"other","digest":""},{"name":"odd","digest":""}]}"#;
    let models = listing::whole::tags(body).unwrap();
    fleet.observe(
        NodeId(0),
        Observation::Installed {
            models,
            version: None,
        },
        Instant::now(),
    );
    let body = br#"{"models":[{"name":"llama","digest":"1"},{"name":"other"}]}"#;
    fleet.observe(
        NodeId(0),
        Observation::Loaded(listing::ps(body).unwrap()),
        Instant::now(),
    );
    let view = fleet.view();
    assert_eq!(warm_on(&view, "copy").unwrap(), [(0, true)]);
    assert_eq!(warm_on(&view, "other").unwrap(), [(0, true)]);
    assert_eq!(warm_on(&view, "odd").unwrap(), [(0, false)]);
    assert_eq!(warm_on(&view, "qwen"), None);
    for holder in ["copy", "other", "odd"].map(|name| view.named_holders(name).next().unwrap()) {
        let node = view.node_of(holder);
        assert_eq!(
            node.holds(&holder.traits),
            holder.warm,
            "{}",
            holder.spelled
        );
    }
}

#[test]
fn a_lost_node_keeps_its_models_and_loses_its_warmth() {
    let Herd { fleet, .. } = herd("a up 0/4 llama*\nb up 0/4 qwen");
    assert!(fleet.view().is_ready());
    assert!(
        std::str::from_utf8(&fleet.view().ps(&Scope::ALL))
            .unwrap()
            .contains("llama")
    );
    for node in [0, 1] {
        for _ in 0..LIMITS.unhealthy_threshold {
            let broken = Observation::Probe(Err("reset".to_owned()));
            fleet.observe(NodeId(node), broken, Instant::now());
        }
    }
    let view = fleet.view();
    assert!(!view.is_ready());
    assert_eq!(warm_on(&view, "llama").unwrap(), [(0, false)]);
    assert_eq!(view.ps(&Scope::ALL), r#"{"models":[]}"#);
    assert_eq!(view.model_names().collect::<Vec<_>>(), ["llama", "qwen"]);
    assert!(
        std::str::from_utf8(&view.listing(&Scope::ALL, Format::Ollama))
            .unwrap()
            .contains("qwen")
    );
}

#[test]
fn only_a_visible_change_makes_a_new_snapshot() {
    let fleet = Fleet::new(vec![ollama("a")], LIMITS);
    let addr = |port| Observation::Resolved(SocketAddr::from(([127, 0, 0, 1], port)));
    let models = |names: &[&str], version: Option<&str>| Observation::Installed {
        models: installed(true, names),
        version: version.map(str::to_owned),
    };
    let broken = || Err("refused".to_owned());
    for (seen, is_visible) in [
        (Observation::Probe(Ok(())), true),
        (Observation::Probe(Ok(())), false),
        (Observation::Traffic(Ok(())), false),
        (addr(1), true),
        (addr(1), false),
        (addr(2), true),
        (models(&[], None), true),
        (models(&["llama"], Some("0.24.0")), true),
        (models(&["llama"], None), false),
        (models(&["llama"], Some("0.33.0")), true),
        (Observation::Loaded(loaded(&["llama*"])), true),
        (Observation::Loaded(loaded(&["llama*"])), false),
        (Observation::Traffic(broken()), false),
        (Observation::Probe(broken()), true),
        (Observation::Probe(broken()), false),
        (Observation::Traffic(Ok(())), false),
    ] {
        let before = fleet.view();
        let what = format!("{seen:?}");
        fleet.observe(NodeId(0), seen, Instant::now());
        assert_eq!(!Arc::ptr_eq(&before, &fleet.view()), is_visible, "{what}");
    }
    fleet.observe(NodeId(9), Observation::Probe(Ok(())), Instant::now());
    let view = fleet.view();
    let node = view.node(NodeId(0)).unwrap();
    assert_eq!(node.version.as_deref(), Some("0.33.0"));
    assert_eq!(node.addr, Some(SocketAddr::from(([127, 0, 0, 1], 2))));
}

#[test]
fn what_tells_of_no_expiry_is_not_made_anew_for_one() {
    let Herd { fleet, .. } = herd("a up 0/4 llama* other\nb@vllm up 0/4 qwen");
    let ps = |second: u32| {
        let body = format!(
            r#"{{"models":[{{"name":"llama","digest":"d-llama","expires_at":"1970-01-01T00:00:{second:02}Z"}}]}}"#
        );
        let seen = Observation::Loaded(listing::ps(body.as_bytes()).unwrap());
        fleet.observe(NodeId(0), seen, Instant::now());
        fleet.view()
    };
    let kept = |view: &Snapshot| {
        let listing = |format| view.listing(&Scope::ALL, format).as_ptr().addr();
        let formats = [Format::OpenAi, Format::LmStudio, Format::Unified];
        let mut places = formats.map(listing).to_vec();
        places.push(view.version().as_ptr().addr());
        places.push(view.model_names().next().unwrap().as_ptr().addr());
        places.push(Arc::as_ptr(&view.groups(&Scope::ALL)).addr());
        places
    };
    let pages = |view: &Snapshot| {
        [
            view.listing(&Scope::ALL, Format::Ollama),
            view.ps(&Scope::ALL),
        ]
    };
    let (before, after) = (ps(1), ps(2));
    assert_eq!(kept(&before), kept(&after));
    assert!(std::iter::zip(pages(&before), pages(&after)).all(|(a, b)| a != b));
    // Health is told by some of them, and by the others not.
    for _ in 0..LIMITS.unhealthy_threshold {
        let broken = Observation::Probe(Err("reset".to_owned()));
        fleet.observe(NodeId(1), broken, Instant::now());
    }
    let unwell = fleet.view();
    let unified = |view: &Snapshot| view.listing(&Scope::ALL, Format::Unified);
    assert_ne!(unified(&after), unified(&unwell));
    assert_eq!(
        pages(&after).map(|page| page.as_ptr().addr()),
        pages(&unwell).map(|page| page.as_ptr().addr())
    );
}

#[test]
fn what_servers_hold_that_say_it_otherwise_is_in_memory_too() {
    let Herd { fleet, .. } =
        herd("a up 0/4 llama* other\nb@vllm up 0/4 qwen cold\nc@vllm down 0/4 qwen");
    let body =
        br#"[{"id":"qwen","state":"loaded"},{"id":"cold","state":"not-loaded"},{"id":"phi"}]"#;
    let models = listing::whole::v1_models(body).unwrap();
    let version = None;
    let seen = Observation::Installed { models, version };
    fleet.observe(NodeId(1), seen, Instant::now());
    let view = fleet.view();
    let held: Vec<Vec<&str>> = view
        .nodes
        .iter()
        .map(|node| node.in_memory().collect())
        .collect();
    assert_eq!(held, [&["llama"][..], &["qwen", "phi"], &[]]);
}

#[test]
fn a_new_expiry_is_shown_without_a_new_index() {
    let Herd { fleet, .. } = herd("a up 0/4 llama*");
    let body =
        br#"{"models":[{"name":"llama","digest":"d-llama","expires_at":"1970-01-01T00:01:00Z"}]}"#;
    let before = fleet.view();
    assert!(
        !std::str::from_utf8(&before.listing(&Scope::ALL, Format::Ollama))
            .unwrap()
            .contains("expires_at")
    );
    fleet.observe(
        NodeId(0),
        Observation::Loaded(listing::ps(body).unwrap()),
        Instant::now(),
    );
    let tags = fleet.view().listing(&Scope::ALL, Format::Ollama);
    assert!(
        std::str::from_utf8(&tags)
            .unwrap()
            .contains("\"expires_at\":60}")
    );
}

#[test]
fn a_node_that_answers_requests_is_known_to_be_up() {
    let fleet = Fleet::new(vec![ollama("a")], LIMITS);
    fleet.observe(NodeId(0), Observation::Traffic(Ok(())), Instant::now());
    assert_eq!(fleet.view().nodes[0].health, Health::Up);
    // A failure between two successes is forgotten although the first success needed no lock.
    fleet.observe(
        NodeId(0),
        Observation::Traffic(Err("reset".to_owned())),
        Instant::now(),
    );
    fleet.observe(NodeId(0), Observation::Traffic(Ok(())), Instant::now());
    fleet.observe(
        NodeId(0),
        Observation::Traffic(Err("reset".to_owned())),
        Instant::now(),
    );
    assert_eq!(fleet.view().nodes[0].health, Health::Up);
}

#[test]
fn an_answer_to_an_earlier_question_does_not_undo_a_later_one() {
    let herd = herd("a up 0/4 old\nb up 0/4 old");
    let (fleet, now) = (&herd.fleet, Instant::now());
    let tell = |node: usize, names: &[&str], turn| {
        let models = fixture::installed(true, names);
        let version = None;
        fleet.observe_in_turn(
            NodeId(node),
            Observation::Installed { models, version },
            turn,
            now,
        );
    };
    let has = |node: usize| -> Vec<String> {
        let view = fleet.view();
        let models = view.nodes[node].models().iter();
        models.map(|model| model.name.to_string()).collect()
    };
    let (first, second, third) = (fleet.turn(), fleet.turn(), fleet.turn());
    tell(0, &["new"], second);
    tell(0, &["old"], first);
    assert_eq!(has(0), ["new"]);
    let loaded = Observation::Loaded(fixture::loaded(&["new*"]));
    fleet.observe_in_turn(NodeId(0), loaded, first, now);
    assert_eq!(
        fleet.view().nodes[0].loaded.len(),
        1,
        "that is another question"
    );
    tell(1, &["other"], first);
    assert_eq!(has(1), ["other"], "that is another node");
    tell(0, &["newer"], third);
    assert_eq!(has(0), ["newer"]);
    fleet.observe_in_turn(NodeId(7), Observation::Loaded(Vec::new()), third, now);
}
