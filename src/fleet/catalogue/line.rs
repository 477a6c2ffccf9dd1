//! One line of the catalogue: a name that clients may ask for, who has it, and whose entry speaks for it.

use crate::config::Alias;
use crate::dialect::{Filter, Mount, Operation};
use crate::fleet::listing::Installed;
use crate::fleet::snapshot::{Holder, Node, Snapshot};
use crate::model::ModelKey;
use crate::profile::{Listing, Needs};

/// Which nodes' models a listing shows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope {
    /// Nodes that the address of the call allows.
    pub mount: Mount,
    /// Only nodes that serve this, when set.
    pub serves: Option<Operation>,
}

impl Scope {
    /// Every node.
    pub const ALL: Scope = Scope {
        mount: Mount::All,
        serves: None,
    };

    pub(super) fn shows(&self, node: &Node) -> bool {
        let can_serve = |operation| node.can_serve(operation, Needs::default());
        node.is_on(&self.mount) && self.serves.is_none_or(can_serve)
    }
}

/// A name in the catalogue.
pub struct Line<'a> {
    /// As it is listed.
    pub name: &'a str,
    /// What an asked name is compared with.
    pub key: &'a ModelKey,
    /// Who has it, in the order of the nodes; never empty.
    pub holders: Vec<&'a Holder>,
    /// Whose entry speaks for it: the first Ollama node, whose listing says most, else the first node.
    pub teller: &'a Node,
    /// That node's entry.
    pub model: &'a Installed,
    /// What `name` stands for, where it is an alias: the name of the model that speaks for it.
    pub stands_for: Option<&'a ModelKey>,
}

impl<'a> Line<'a> {
    fn new(view: &'a Snapshot, key: &'a ModelKey, holders: Vec<&'a Holder>) -> Option<Line<'a>> {
        let is_ollama =
            |holder: &&&Holder| view.nodes[holder.at].config.profile.listing == Listing::Ollama;
        let holder = holders.iter().find(is_ollama).or(holders.first())?;
        let teller = view.node_of(holder);
        let offered = teller.offered().get(holder.place)?;
        Some(Line {
            name: &offered.name,
            key,
            teller,
            model: &teller.models()[offered.place],
            stands_for: None,
            holders,
        })
    }

    /// The name, where the teller's own entry has another.
    pub(super) fn renamed(&self) -> Option<&'a str> {
        (*self.name != *self.model.name).then_some(self.name)
    }

    /// Whether the name only stands for a model.
    pub fn is_alias(&self) -> bool {
        self.stands_for.is_some()
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.holders.iter().any(|holder| holder.warm)
    }

    /// Whether a filter lets it through.
    pub(super) fn fits(&self, filter: &Filter, view: &Snapshot) -> bool {
        let about = &self.model.about;
        let same = |wanted: &Option<String>, is: &str| {
            wanted
                .as_ref()
                .is_none_or(|wanted| wanted.eq_ignore_ascii_case(is))
        };
        let nodes = || self.holders.iter().map(|holder| view.node_of(holder));
        let is_of_type = |wanted: &String| {
            let words = |node: &Node| {
                let profile = &node.config.profile;
                *wanted == *profile.name || profile.prefixes.contains(wanted)
            };
            wanted.eq_ignore_ascii_case(about.kind.as_str()) || nodes().any(words)
        };
        same(&filter.family, &about.family)
            && filter.kind.as_ref().is_none_or(is_of_type)
            && filter
                .capability
                .as_ref()
                .is_none_or(|word| about.can(word))
            && filter
                .endpoint
                .as_ref()
                .is_none_or(|name| nodes().any(|node| node.config.name == *name))
            && filter
                .available
                .is_none_or(|wanted| wanted == nodes().any(Node::is_open))
    }
}

impl Snapshot {
    /// The catalogue's names, the newest first; each once. Aliases stand among them when somebody offers what they stand for.
    pub fn lines(&self, scope: &Scope) -> Vec<Line<'_>> {
        let mut lines: Vec<Line<'_>> = self
            .index
            .iter()
            .filter_map(|(key, holders)| Line::new(self, key, self.visible(holders, scope)))
            .collect();
        lines.extend(
            self.rules
                .aliases
                .iter()
                .filter_map(|it| self.alias(it, scope)),
        );
        lines.sort_unstable_by(|a, b| (b.model.modified, a.name).cmp(&(a.model.modified, b.name)));
        lines
    }

    /// The line of one name.
    pub fn line(&self, asked: &str, scope: &Scope) -> Option<Line<'_>> {
        self.line_of(&ModelKey::parse_any(asked).ok()?, scope)
    }

    pub(super) fn line_of(&self, key: &ModelKey, scope: &Scope) -> Option<Line<'_>> {
        let known = self.index.get_key_value(key);
        let line =
            known.and_then(|(key, holders)| Line::new(self, key, self.visible(holders, scope)));
        line.or_else(|| {
            let alias = self.rules.aliases.iter().find(|alias| alias.key == *key)?;
            self.alias(alias, scope)
        })
    }

    fn visible<'a>(&'a self, holders: &'a [Holder], scope: &Scope) -> Vec<&'a Holder> {
        let shown = |holder: &&Holder| scope.shows(self.node_of(holder));
        holders.iter().filter(shown).collect()
    }

    /// An alias is told as its first target; the nodes are those that have any. A model of that name speaks for itself.
    fn alias<'a>(&'a self, alias: &'a Alias, scope: &Scope) -> Option<Line<'a>> {
        let own = self.index.get(&alias.key);
        if own.is_some_and(|holders| !self.visible(holders, scope).is_empty()) {
            return None;
        }
        let mut targets = alias.models.iter().filter_map(|target| {
            let (target, holders) = self.index.get_key_value(target)?;
            let line = Line::new(self, &alias.key, self.visible(holders, scope))?;
            Some(Line {
                stands_for: Some(target),
                ..line
            })
        });
        let mut line = targets.next()?;
        for later in targets {
            line.holders.extend(later.holders);
        }
        // Stable: of one node the earlier target stays.
        line.holders.sort_by_key(|holder| holder.at);
        line.holders.dedup_by_key(|holder| holder.at);
        line.name = &alias.name;
        Some(line)
    }
}
