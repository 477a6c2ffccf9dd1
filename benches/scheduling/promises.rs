//! What arriero promises of its scheduling, held against the figures.

use crate::figures::{Figures, median};
use crate::policy::{ARRIERO, LEAST_CONNECTIONS, WARM_ELSE_LEAST};

/// One contender's figures, run by run in the order of the seeds.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) runs: Vec<Figures>,
}

/// A scenario's table.
pub(crate) struct Table {
    pub(crate) title: &'static str,
    pub(crate) rows: Vec<Row>,
}

impl Table {
    pub(crate) fn median(&self, name: &str) -> Option<Figures> {
        let row = self.rows.iter().find(|row| row.name == name)?;
        Some(Figures::median(&row.runs))
    }
}

/// Per contender, how much of the best goodput of all levels is left at the last.
pub(crate) fn goodput_kept(levels: &[Table], name: &str) -> Option<f64> {
    let goodputs: Option<Vec<f64>> = levels
        .iter()
        .map(|table| Some(table.median(name)?.goodput))
        .collect();
    let goodputs = goodputs?;
    let peak = goodputs.iter().copied().fold(0.0, f64::max);
    Some(goodputs.last()? / peak)
}

/// How often as long the light tenants wait because of the flood: the median over the seeds.
pub(crate) fn flood_factor(calm: &Table, flood: &Table, name: &str) -> Option<f64> {
    let runs = |table: &Table| {
        let row = table.rows.iter().find(|row| row.name == name)?;
        Some(row.runs.iter().map(|run| run.light_p95).collect::<Vec<_>>())
    };
    let pairs = runs(calm)?.into_iter().zip(runs(flood)?);
    Some(median(pairs.map(|(calm, flood)| flood / calm).collect()))
}

/// A sentence for each promise that is broken.
pub(crate) fn broken(
    ordinary: &[&Table],
    levels: &[Table],
    calm: &Table,
    flood: &Table,
) -> Vec<String> {
    let mut faults = Vec::new();
    for table in ordinary {
        match faults_at_seventy(table) {
            Some(more) => faults.extend(more),
            None => {
                return vec![format!(
                    "no policy is named `{ARRIERO}`: there is nothing to hold the promises against"
                )];
            }
        }
    }
    let kept = goodput_kept(levels, ARRIERO).unwrap_or(0.0);
    if kept < 0.9 {
        faults.push(format!("at twice what the fleet can do, {ARRIERO} keeps {kept:.2} of its best goodput; promised is 0.9"));
    }
    let factor = flood_factor(calm, flood, ARRIERO).unwrap_or(f64::INFINITY);
    if 2.0 < factor {
        faults.push(format!(
            "a flood makes the light tenants' p95 {factor:.2} times as long; promised is 2 at most"
        ));
    }
    let tables = ordinary.iter().copied().chain(levels.last()).chain([flood]);
    for table in tables {
        let jain = table.median(ARRIERO).map_or(0.0, |figures| figures.jain);
        if jain < 0.95 {
            faults.push(format!(
                "{}: Jain's index is {jain:.3}; promised is 0.95",
                table.title
            ));
        }
    }
    faults
}

/// None where one of the three compared is not in the table.
fn faults_at_seventy(table: &Table) -> Option<Vec<String>> {
    let ours = table.median(ARRIERO)?;
    let least = table.median(LEAST_CONNECTIONS)?;
    let warm = table.median(WARM_ELSE_LEAST)?;
    let promises = [
        ("loads", ours.loads, 0.25, LEAST_CONNECTIONS, least.loads),
        ("p95", ours.p95, 1.0 / 3.0, LEAST_CONNECTIONS, least.p95),
        ("p95", ours.p95, 0.7, WARM_ELSE_LEAST, warm.p95),
    ];
    let is_broken = |(_, ours, share, _, theirs): &(_, f64, f64, _, f64)| theirs * share < *ours;
    let sentence = |(what, ours, share, name, theirs)| {
        format!(
            "{}: {what} is {ours:.1} and {name}'s {theirs:.1}; promised is {share:.2} of that",
            table.title
        )
    };
    Some(
        promises
            .into_iter()
            .filter(is_broken)
            .map(sentence)
            .collect(),
    )
}
