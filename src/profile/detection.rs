//! Which type a node is, judged by what it answers to a few questions.

use std::sync::Arc;

use super::{Profile, Profiles};

/// Most questions asked of a node of unknown type.
pub const QUESTIONS_MAX: usize = 8;
/// How much of an answer's body is looked at, bytes.
pub const BODY_BYTES_MAX: usize = 64 << 10;
/// A sign that only servers of one type give.
const OWN_SIGN: u32 = 16;
/// What an answering path weighs, shared among all types that have it.
const PATH_SIGN: u32 = 12;
/// A port is a habit, not a proof: it decides between equals only.
const PORT_SIGN: u32 = 1;

/// `detection`: by what nodes of a type are told from others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Detection {
    /// Texts in the `Server` or `User-Agent` header of its answers, in small letters.
    pub user_agents: Vec<String>,
    /// Names of headers that only it sends, in small letters.
    pub headers: Vec<String>,
    /// Texts in the bodies of its answers, in small letters.
    pub response_patterns: Vec<String>,
    /// Paths at which it answers with 2xx and no error.
    pub paths: Vec<String>,
    /// Ports it listens on unless told otherwise.
    pub ports: Vec<u16>,
}

/// A node's answer to one question.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// What was asked with GET.
    pub path: &'a str,
    /// Status of the answer.
    pub status: u16,
    /// Names and values of its headers, as they came.
    pub headers: &'a [(String, String)],
    /// The beginning of its body; more than [`BODY_BYTES_MAX`] is not looked at.
    pub body_start: &'a [u8],
}

/// The paths to ask a node of unknown type for, at most [`QUESTIONS_MAX`]: every type's first, then every type's second, …
pub fn questions(profiles: &Profiles) -> Vec<&str> {
    let lists: Vec<&[String]> = profiles
        .iter()
        .map(|it| it.detection.paths.as_slice())
        .collect();
    let longest = lists.iter().map(|list| list.len()).max().unwrap_or(0);
    let mut asked: Vec<&str> = Vec::new();
    for rank in 0..longest {
        for path in lists.iter().filter_map(|list| list.get(rank)) {
            if asked.len() < QUESTIONS_MAX && !asked.contains(&path.as_str()) {
                asked.push(path);
            }
        }
    }
    asked
}

/// The type that the answers speak for most; the earlier one where two are equal. `None` when nothing but the port speaks for any.
pub fn detect(evidence: &[Evidence<'_>], port: u16, profiles: &Profiles) -> Option<Arc<Profile>> {
    let answers: Vec<Answer> = evidence.iter().map(Answer::of).collect();
    let sharers = |path: &str| {
        let shares = |it: &&Arc<Profile>| it.detection.paths.iter().any(|its| its == path);
        let count = profiles.iter().filter(shares).count();
        u32::try_from(count).unwrap_or(u32::MAX).max(1)
    };
    let mut best: Option<(u32, &Arc<Profile>)> = None;
    for profile in profiles.iter() {
        let signs = signs(&profile.detection, &answers, &sharers);
        if signs == 0 {
            continue;
        }
        let score = signs + PORT_SIGN * u32::from(profile.detection.ports.contains(&port));
        if best.is_none_or(|(most, _)| most < score) {
            best = Some((score, profile));
        }
    }
    best.map(|(_, profile)| profile.clone())
}

/// An answer in small letters, made so once and not for every type.
struct Answer<'a> {
    path: &'a str,
    is_good: bool,
    headers: Vec<String>,
    agents: Vec<String>,
    body: String,
}

impl<'a> Answer<'a> {
    fn of(evidence: &Evidence<'a>) -> Answer<'a> {
        let lower = |(name, value): &(String, String)| (name.to_lowercase(), value.to_lowercase());
        let headers: Vec<(String, String)> = evidence.headers.iter().map(lower).collect();
        let agents = headers
            .iter()
            .filter(|(name, _)| name == "server" || name == "user-agent")
            .map(|(_, value)| value.clone())
            .collect();
        let length = evidence.body_start.len().min(BODY_BYTES_MAX);
        let body = String::from_utf8_lossy(&evidence.body_start[..length]).to_lowercase();
        // LM Studio answers 200 with an error at paths that it does not have.
        let is_error = body.trim_start().starts_with("{\"error\"");
        Answer {
            path: evidence.path,
            is_good: (200..300).contains(&evidence.status) && !is_error,
            agents,
            headers: headers.into_iter().map(|(name, _)| name).collect(),
            body,
        }
    }
}

fn signs(detection: &Detection, answers: &[Answer<'_>], sharers: &dyn Fn(&str) -> u32) -> u32 {
    let has = |words: &[String], test: &dyn Fn(&Answer<'_>, &str) -> bool| {
        let given = |word: &String| answers.iter().any(|answer| test(answer, word));
        u32::from(words.iter().any(given))
    };
    let header = has(&detection.headers, &|answer, word| {
        answer.headers.iter().any(|name| name == word)
    });
    let agent = has(&detection.user_agents, &|answer, word| {
        answer.agents.iter().any(|agent| agent.contains(word))
    });
    let body = has(&detection.response_patterns, &|answer, word| {
        answer.body.contains(word)
    });
    let answered = |path: &&String| answers.iter().any(|it| it.is_good && it.path == *path);
    // Nearly every server answers at `/`.
    let weight = |path: &String| match path.as_str() {
        "/" => 1,
        path => (PATH_SIGN / sharers(path)).max(1),
    };
    let paths: u32 = detection.paths.iter().filter(answered).map(weight).sum();
    paths + OWN_SIGN * (header + agent + body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn telling(name: &str, detection: Detection) -> Arc<Profile> {
        Arc::new(Profile {
            detection,
            ..Profile::new(name, super::super::Api::default())
        })
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn two() -> Profiles {
        Profiles::new(vec![
            telling(
                "a",
                Detection {
                    paths: words(&["/a", "/shared"]),
                    ports: vec![1],
                    ..Detection::default()
                },
            ),
            telling(
                "b",
                Detection {
                    paths: words(&["/shared"]),
                    response_patterns: words(&["b is here"]),
                    headers: words(&["x-b"]),
                    user_agents: words(&["bee/"]),
                    ports: vec![2],
                },
            ),
        ])
    }

    #[test]
    fn questions_are_bounded_and_ask_each_path_once() {
        assert_eq!(questions(&two()), ["/a", "/shared"]);
        let many = (0..20).map(|n| {
            telling(
                &format!("t{n}"),
                Detection {
                    paths: vec![format!("/{n}")],
                    ..Detection::default()
                },
            )
        });
        assert_eq!(
            questions(&Profiles::new(many.collect())).len(),
            QUESTIONS_MAX
        );
    }

    #[test]
    fn answers_speak_for_types() {
        let server = [("Server".to_owned(), "BEE/1".to_owned())];
        let header = [("X-B".to_owned(), String::new())];
        type Answer<'a> = (&'a str, u16, &'a [(String, String)], &'a [u8]);
        let table: &[(&[Answer], u16, Option<&str>)] = &[
            (&[], 1, None),
            (&[("/a", 404, &[], b"")], 1, None),
            (&[("/a", 200, &[], b"")], 9, Some("a")),
            // What both have speaks for the earlier one, unless the port speaks for the other.
            (&[("/shared", 200, &[], b"")], 9, Some("a")),
            (&[("/shared", 204, &[], b"")], 2, Some("b")),
            (
                &[("/shared", 200, &[], b"{\"x\":\"B is here\"}")],
                1,
                Some("b"),
            ),
            (&[("/shared", 500, &server, b"")], 1, Some("b")),
            (&[("/shared", 401, &header, b"\xff\xfe")], 1, Some("b")),
        ];
        for (answers, port, expected) in table {
            let evidence: Vec<Evidence> = answers
                .iter()
                .map(|(path, status, headers, body_start)| Evidence {
                    path,
                    status: *status,
                    headers,
                    body_start,
                })
                .collect();
            let found = detect(&evidence, *port, &two());
            assert_eq!(found.as_ref().map(|it| &*it.name), *expected, "{answers:?}");
        }
    }
}
