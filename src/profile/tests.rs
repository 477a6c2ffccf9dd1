//! What a type's own words come to, on types made for the purpose; the built-in ones are tested where they are read.

use super::*;
use Operation::*;

fn api(paths: &[&str]) -> Api {
    Api {
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        ..Api::default()
    }
}

fn messages(limitations: &[&str]) -> Api {
    Api {
        messages: Some(MessagesApi {
            path: "/anthropic/v1/messages".to_owned(),
            counts_tokens: true,
            min_version: Some("0.14.0".to_owned()),
            limitations: limitations.iter().map(|word| (*word).to_owned()).collect(),
        }),
        ..api(&[
            "/engines/v1/models",
            "/engines/v1/chat/completions",
            "/engines/vllm/v1/chat/completions",
        ])
    }
}

#[test]
fn a_call_is_served_where_its_path_ends() {
    let profile = Profile::new("t", messages(&[]));
    let table = [
        (Models, Some("/engines/v1/models")),
        (Model, Some("/engines/v1/models")),
        (ChatCompletions, Some("/engines/v1/chat/completions")),
        (Completions, None),
        (Chat, None),
        (Root, None),
        (Messages, Some("/anthropic/v1/messages")),
        (CountTokens, Some("/anthropic/v1/messages/count_tokens")),
    ];
    for (operation, path) in table {
        assert_eq!(profile.path_of(operation), path, "{operation:?}");
        assert_eq!(profile.serves(operation), path.is_some());
    }
    let at = |operation, path| profile.place(operation, path).into_owned();
    assert_eq!(at(Model, "/v1/models/a%2Eb"), "/engines/v1/models/a%2Eb");
    assert_eq!(at(Models, "/v1/models"), "/engines/v1/models");
    assert_eq!(at(Tags, "/api/tags"), "/api/tags");
    let own = Profile::new("t", api(&["/", "/x/api/chat", "/api/chat", "/api/blobs"]));
    assert!(matches!(
        own.place(Chat, "/api/chat"),
        Cow::Borrowed("/api/chat")
    ));
    assert_eq!(
        own.place(Blob, "/api/blobs/sha256:00"),
        "/api/blobs/sha256:00"
    );
    assert!(own.serves(Root) && !own.serves(Models) && !own.serves(ChatCompletions));
}

#[test]
fn an_extra_part_in_the_url_is_not_doubled() {
    let profile = Profile::new("t", messages(&[]));
    let table = [
        ("", ("", "")),
        ("/engines", ("", "/engines")),
        ("/a/engines", ("/a", "/engines")),
        ("/engines/vllm", ("", "/engines/vllm")),
        ("/anthropic", ("", "/anthropic")),
        ("/my-engines", ("/my-engines", "")),
        ("/openai", ("/openai", "")),
    ];
    for (base, split) in table {
        assert_eq!(profile.split_base(base), split, "{base}");
    }
    let own = profile.preferring("/engines/vllm");
    assert_eq!(
        own.path_of(ChatCompletions),
        Some("/engines/vllm/v1/chat/completions")
    );
    assert_eq!(own.path_of(Models), Some("/engines/v1/models"));
}

#[test]
fn limitations_and_versions_keep_messages_away() {
    let none = Needs::default();
    let (tools, thinking) = (
        Needs {
            tools: true,
            ..none
        },
        Needs {
            thinking: true,
            ..none
        },
    );
    let images = Needs {
        images: true,
        ..none
    };
    let old = Some(Shortcoming::TooOld("0.14.0"));
    let lacks = |what| Some(Shortcoming::Lacks(what));
    type Case<'a> = (
        &'a [&'a str],
        Option<&'a str>,
        Needs,
        Option<Shortcoming<'a>>,
    );
    let table: &[Case<'_>] = &[
        (&[], None, none, None),
        (&[], Some("0.14.0"), tools, None),
        (&[], Some("0.13.9"), none, old),
        (&["no_tool_use"], None, tools, lacks("tools")),
        (&["no_tool_use"], None, thinking, None),
        (
            &["no_extended_thinking"],
            None,
            thinking,
            lacks("extended thinking"),
        ),
        (&["no_vision"], None, images, lacks("images")),
        (&["something_else"], None, images, None),
    ];
    for (limitations, version, needs, expected) in table {
        let profile = Profile::new("t", messages(limitations));
        assert_eq!(
            profile.shortcoming(Messages, *version, *needs),
            *expected,
            "{limitations:?} {version:?} {needs:?}"
        );
        assert_eq!(profile.shortcoming(ChatCompletions, *version, *needs), None);
    }
    for word in ["token_counting_404", "no_token_counting"] {
        let profile = Profile::new("t", messages(&[word]));
        assert!(!profile.serves(CountTokens) && profile.serves(Messages));
    }
}

#[test]
fn no_stream_goes_where_none_is_supported() {
    let mut profile = Profile::new("t", messages(&[]));
    let stream = Needs {
        stream: true,
        ..Needs::default()
    };
    assert_eq!(profile.shortcoming(ChatCompletions, None, stream), None);
    profile.characteristics.streaming = Some(false);
    let told = profile.shortcoming(ChatCompletions, None, stream);
    assert_eq!(told, Some(Shortcoming::Streams));
    let whole = Needs::default();
    assert_eq!(profile.shortcoming(ChatCompletions, None, whole), None);
}

#[test]
fn a_node_of_unknown_type_serves_nothing() {
    let auto = Profile::auto();
    assert!(auto.is_auto());
    for (operation, _) in crate::dialect::recognize::calls() {
        assert!(!auto.serves(operation), "{operation:?}");
    }
}

#[test]
fn a_mount_is_never_a_reserved_word() {
    let named = Profile {
        prefixes: vec!["openai".to_owned(), "mine".to_owned()],
        ..Profile::new("t", api(&[]))
    };
    let profiles = Profiles::new(vec![Arc::new(named)]);
    assert!(profiles.find("openai").is_some() && profiles.mount("openai").is_none());
    assert!(profiles.mount("mine").is_some() && profiles.mount("t").is_some());
    assert!(profiles.find(AUTO).is_some() && profiles.mount(AUTO).is_none());
}

#[test]
fn a_deadline_grows_with_the_model_and_never_shrinks() {
    let mut profile = Profile::new("t", api(&[]));
    let seconds = Duration::from_secs;
    let demand = Demand {
        load_time: seconds(300),
        ..profile.needs_of("m", None, None)
    };
    assert_eq!(profile.cold_timeout(seconds(60), &demand), seconds(60));
    profile.resources.base_timeout = Some(seconds(30));
    assert_eq!(profile.cold_timeout(seconds(60), &demand), seconds(60));
    profile.resources.load_time_buffer = Some(true);
    assert_eq!(profile.cold_timeout(seconds(60), &demand), seconds(330));
    assert_eq!(profile.cold_timeout(seconds(600), &demand), seconds(600));
    profile.characteristics.timeout = Some(seconds(10));
    assert_eq!(profile.cold_timeout(seconds(600), &demand), seconds(330));
}
