//! What a name stands for as time goes by: a failed answer takes nobody away, and is told once.

use std::net::IpAddr;

use super::{Answer, Family, Members, Refused, members};

/// Refused addresses that a message spells out.
const REFUSED_TOLD_MAX: usize = 4;

/// The last good answer about one name, and what has been said about the later ones.
#[derive(Debug)]
pub struct LastGood {
    name: String,
    members: Vec<IpAddr>,
    failing: bool,
    halved: bool,
    crowded: bool,
    refused: Vec<Refused>,
}

/// What an answer changed. The messages are for the log: each trouble once when it begins, its end once.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Heard {
    /// [`LastGood::members`] is not what it was.
    pub changed: bool,
    /// New troubles, one sentence each.
    pub warnings: Vec<String>,
    /// A good answer after failed ones.
    pub relief: Option<String>,
}

impl LastGood {
    /// Nothing is known of `name` yet.
    pub fn new(name: &str) -> LastGood {
        LastGood::keeping(name, Vec::new())
    }

    /// These are the members of an earlier [`LastGood`] of the name.
    pub fn keeping(name: &str, members: Vec<IpAddr>) -> LastGood {
        LastGood {
            name: name.to_owned(),
            members,
            failing: false,
            halved: false,
            crowded: false,
            refused: Vec::new(),
        }
    }

    /// The name's nodes: sorted, each once, at most [`super::MEMBERS_MAX`].
    pub fn members(&self) -> &[IpAddr] {
        &self.members
    }

    /// Takes the answer of one round, or why there is none. An answer without a usable address counts as none: a zone
    /// in the middle of a change must not empty the fleet.
    pub fn hear(&mut self, answer: Result<Answer, String>) -> Heard {
        let mut heard = Heard::default();
        match answer {
            Err(why) => self.fail(why, &mut heard),
            Ok(answer) => {
                let found = members(answer.addrs.iter().copied());
                self.tell_refused(&found, &mut heard);
                if found.addrs.is_empty() {
                    self.fail(self.nobody(&found), &mut heard);
                } else {
                    self.succeed(answer, found, &mut heard);
                }
            }
        }
        heard
    }

    fn succeed(&mut self, answer: Answer, mut found: Members, heard: &mut Heard) {
        let halved = answer.missing.is_some();
        if let Some(missing) = answer.missing {
            // Of the family that got no answer nothing new is known, so its nodes stay.
            let kept = self.members.iter().copied();
            let kept = kept.filter(|addr| Family::of(addr) == missing.family);
            found = members(kept.chain(answer.addrs));
            if !self.halved {
                heard.warnings.push(format!(
                    "`{}`: its {} records can't be learned: {}; the nodes they brought in are kept",
                    self.name, missing.family, missing.why
                ));
            }
        }
        self.halved = halved;
        if found.left_out > 0 && !self.crowded {
            heard.warnings.push(format!(
                "`{}` has {} addresses; the first {} serve",
                self.name,
                found.addrs.len() + found.left_out,
                found.addrs.len(),
            ));
        }
        self.crowded = found.left_out > 0;
        if self.failing {
            let count = addresses(found.addrs.len());
            heard.relief = Some(format!("`{}` now resolves to {count}", self.name));
        }
        self.failing = false;
        heard.changed = self.members != found.addrs;
        self.members = found.addrs;
    }

    fn fail(&mut self, why: String, heard: &mut Heard) {
        if !self.failing {
            let rest = match self.members.len() {
                0 => "it brings in no nodes yet".to_owned(),
                count => format!("its last good answer stays in use: {}", addresses(count)),
            };
            heard.warnings.push(format!("{why}; {rest}"));
        }
        self.failing = true;
    }

    fn nobody(&self, found: &Members) -> String {
        let why = if found.refused.is_empty() {
            "no address"
        } else {
            "refused addresses only"
        };
        format!("`{}` resolves to {why}", self.name)
    }

    fn tell_refused(&mut self, found: &Members, heard: &mut Heard) {
        if found.refused.iter().any(|it| !self.refused.contains(it)) {
            let told = found.refused.iter().take(REFUSED_TOLD_MAX);
            let told: Vec<String> = told.map(Refused::to_string).collect();
            let more = match found.refused.len() - told.len() {
                0 => String::new(),
                count => format!(" and {count} more"),
            };
            let list = told.join(", ");
            let text = format!(
                "`{}` resolves to addresses that may not be nodes; ignored: {list}{more}",
                self.name
            );
            heard.warnings.push(text);
        }
        self.refused.clone_from(&found.refused);
    }
}

fn addresses(count: usize) -> String {
    let plural = if count == 1 { "" } else { "es" };
    format!("{count} address{plural}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{MEMBERS_MAX, Missing};
    use super::*;

    fn ips(list: &str) -> Vec<IpAddr> {
        list.split_whitespace()
            .map(|text| text.parse().unwrap())
            .collect()
    }

    /// `10.0.0.1 fd00::1`, `10.0.0.1 !v6` (AAAA got no answer) or `! why`.
    fn answer(text: &str) -> Result<Answer, String> {
        if let Some(why) = text.strip_prefix("! ") {
            return Err(why.to_owned());
        }
        let (addrs, family) = match text.split_once('!') {
            Some((addrs, "v4")) => (addrs, Some(Family::V4)),
            Some((addrs, _)) => (addrs, Some(Family::V6)),
            None => (text, None),
        };
        let missing = family.map(|family| Missing {
            family,
            why: "SERVFAIL".to_owned(),
        });
        Ok(Answer {
            addrs: ips(addrs),
            missing,
        })
    }

    /// Rounds of `answer → members | what is said`.
    #[track_caller]
    fn check(rounds: &[(&str, &str, &str)]) {
        let mut known = LastGood::new("herd.test");
        for (round, (text, expected, said)) in rounds.iter().enumerate() {
            let before = known.members().to_vec();
            let heard = known.hear(answer(text));
            let words: Vec<String> = heard.warnings.into_iter().chain(heard.relief).collect();
            assert_eq!(known.members(), ips(expected), "round {round}: {text}");
            assert_eq!(words.join(" | "), *said, "round {round}: {text}");
            assert_eq!(heard.changed, before != known.members(), "round {round}");
        }
    }

    #[test]
    fn members_come_and_go_with_the_answers() {
        check(&[
            ("10.0.0.2 10.0.0.1", "10.0.0.1 10.0.0.2", ""),
            ("10.0.0.1 10.0.0.2 10.0.0.1", "10.0.0.1 10.0.0.2", ""),
            ("10.0.0.1 fd00::1 10.0.0.3", "10.0.0.1 10.0.0.3 fd00::1", ""),
            ("::ffff:10.0.0.3", "10.0.0.3", ""),
        ]);
    }

    #[test]
    fn a_failed_round_takes_nobody_away_and_is_told_once() {
        let kept = "its last good answer stays in use";
        check(&[
            ("10.0.0.1 10.0.0.2", "10.0.0.1 10.0.0.2", ""),
            (
                "! NXDOMAIN",
                "10.0.0.1 10.0.0.2",
                &format!("NXDOMAIN; {kept}: 2 addresses"),
            ),
            ("! SERVFAIL", "10.0.0.1 10.0.0.2", ""),
            ("", "10.0.0.1 10.0.0.2", ""),
            (
                "10.0.0.3",
                "10.0.0.3",
                "`herd.test` now resolves to 1 address",
            ),
            (
                "",
                "10.0.0.3",
                &format!("`herd.test` resolves to no address; {kept}: 1 address"),
            ),
        ]);
    }

    #[test]
    fn a_name_that_never_resolved_says_so() {
        check(&[
            ("! NXDOMAIN", "", "NXDOMAIN; it brings in no nodes yet"),
            ("! NXDOMAIN", "", ""),
            (
                "10.0.0.3",
                "10.0.0.3",
                "`herd.test` now resolves to 1 address",
            ),
        ]);
    }

    #[test]
    fn refused_addresses_are_told_when_new_and_never_serve() {
        let refused = "`herd.test` resolves to addresses that may not be nodes; ignored: 169.254.169.254 (link-local, where clouds keep their metadata services)";
        let only = "`herd.test` resolves to refused addresses only; its last good answer stays in use: 1 address";
        check(&[
            ("10.0.0.1 169.254.169.254", "10.0.0.1", refused),
            ("169.254.169.254 10.0.0.1", "10.0.0.1", ""),
            (
                "! SERVFAIL",
                "10.0.0.1",
                "SERVFAIL; its last good answer stays in use: 1 address",
            ),
            (
                "169.254.169.254 10.0.0.1",
                "10.0.0.1",
                "`herd.test` now resolves to 1 address",
            ),
            ("10.0.0.1", "10.0.0.1", ""),
            (
                "169.254.169.254",
                "10.0.0.1",
                &format!("{refused} | {only}"),
            ),
        ]);
    }

    #[test]
    fn a_flood_of_refused_addresses_makes_one_short_line() {
        let mut known = LastGood::new("herd.test");
        let flood: Vec<String> = (0..200).map(|n| format!("224.0.0.{n}")).collect();
        let heard = known.hear(answer(&format!("10.0.0.1 {}", flood.join(" "))));
        assert_eq!(heard.warnings.len(), 1);
        assert!(
            heard.warnings[0].ends_with("224.0.0.3 (multicast) and 196 more"),
            "{heard:?}"
        );
    }

    #[test]
    fn half_an_answer_replaces_its_own_family_only() {
        let said = "`herd.test`: its AAAA records can't be learned: SERVFAIL; the nodes they brought in are kept";
        check(&[
            ("10.0.0.1 fd00::1", "10.0.0.1 fd00::1", ""),
            ("10.0.0.2 !v6", "10.0.0.2 fd00::1", said),
            ("10.0.0.3 !v6", "10.0.0.3 fd00::1", ""),
            ("10.0.0.3", "10.0.0.3", ""),
            ("10.0.0.4 !v6", "10.0.0.4", said),
        ]);
    }

    #[test]
    fn a_crowd_is_told_once() {
        let mut known = LastGood::new("herd.test");
        let crowd: Vec<String> = (0..300)
            .map(|n| format!("10.0.{}.{}", n / 256, n % 256))
            .collect();
        let heard = known.hear(answer(&crowd.join(" ")));
        assert_eq!(
            heard.warnings,
            ["`herd.test` has 300 addresses; the first 256 serve"]
        );
        assert_eq!(known.hear(answer(&crowd.join(" "))), Heard::default());
        assert_eq!(known.members().len(), MEMBERS_MAX);
    }

    proptest! {
        #[test]
        fn once_there_are_members_no_answer_takes_them_all(
            rounds in prop::collection::vec(
                prop_oneof![
                    Just("! SERVFAIL"), Just(""), Just("169.254.169.254"), Just("10.0.0.1"), Just("fd00::1 !v4"),
                    Just("10.0.0.2 !v6"), Just("0.0.0.0 !v6"), Just("10.0.0.1 fd00::2"),
                ],
                1..40,
            )
        ) {
            let mut known = LastGood::new("herd.test");
            let mut failing = false;
            for text in rounds {
                let before = known.members().to_vec();
                let heard = known.hear(answer(text));
                prop_assert!(before.is_empty() || !known.members().is_empty());
                prop_assert_eq!(heard.changed, before != known.members());
                let good = members(answer(text).map(|it| it.addrs).unwrap_or_default()).addrs;
                prop_assert_eq!(heard.relief.is_some(), failing && !good.is_empty());
                for addr in &good {
                    prop_assert!(known.members().contains(addr), "a good answer is always taken");
                }
                failing = good.is_empty();
            }
        }
    }
}
