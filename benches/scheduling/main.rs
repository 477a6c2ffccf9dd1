//! What scheduling decides, over a modelled fleet in virtual time; `docs/benchmarks.md` tells how to read its tables.
#![expect(clippy::print_stdout, reason = "its tables are for a terminal")]

mod arriero;
mod baselines;
mod chance;
mod engine;
mod figures;
mod fleet;
mod node;
mod policy;
mod promises;
mod scenario;
mod work;

use std::process::ExitCode;

use crate::figures::Figures;
use crate::fleet::{equal_nodes, unequal_nodes};
use crate::policy::{CONTENDERS, Contender};
use crate::promises::{Row, Table, flood_factor, goodput_kept};
use crate::scenario::{Extent, LEVELS, QUICK, Scenario, WHOLE};

const USAGE: &str = "usage: cargo bench --bench scheduling -- [--quick] [--check] [--only NAME]…
  --quick      one seed and a short run: shows that everything works, too short for figures
  --check      ends with 1 and a sentence for every promise of docs/benchmarks.md that arriero breaks
  --only NAME  only this policy; may be given several times";

/// What the command line asks for.
struct Wish {
    extent: Extent,
    is_check: bool,
    contenders: Vec<&'static Contender>,
}

fn main() -> ExitCode {
    let Some(wish) = wish(std::env::args().skip(1)) else {
        println!("{USAGE}");
        return ExitCode::from(2);
    };
    let ordinary = Scenario::ordinary(equal_nodes());
    let calm = wish.table("Four equal nodes at 70 %", &ordinary);
    print(&calm);
    let scenario = Scenario::ordinary(unequal_nodes());
    let unequal = wish.table("Two fast and two slow nodes at 70 %", &scenario);
    print(&unequal);
    let scenario = ordinary.clone().with_odd_contexts();
    print(&wish.table(
        "Equal nodes at 70 %, one conversation in six asks for another context",
        &scenario,
    ));
    let scenario = ordinary.clone().flooded();
    let flood = wish.table(
        "Equal nodes at 70 %, and one tenant of ten sends twenty times as much",
        &scenario,
    );
    print(&flood);
    let level = |level| wish.table("Equal nodes at 200 %", &ordinary.clone().at(level));
    let levels = LEVELS.map(level);
    levels.last().map(print);
    let names: Vec<&str> = wish.contenders.iter().map(|one| one.name).collect();
    print_levels(&levels, &names);
    print_flood(&calm, &flood, &names);
    if !wish.is_check {
        return ExitCode::SUCCESS;
    }
    let broken = promises::broken(&[&calm, &unequal], &levels, &calm, &flood);
    for sentence in &broken {
        println!("{sentence}");
    }
    ExitCode::from(u8::from(!broken.is_empty()))
}

/// None where the arguments are not understood.
fn wish(mut args: impl Iterator<Item = String>) -> Option<Wish> {
    let mut wish = Wish {
        extent: WHOLE,
        is_check: false,
        contenders: Vec::new(),
    };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => wish.extent = QUICK,
            "--check" => wish.is_check = true,
            "--only" => {
                let name = args.next()?;
                let contender = CONTENDERS.iter().find(|one| one.name == name)?;
                wish.contenders.push(contender);
            }
            // Cargo's own.
            "--bench" => {}
            _ => return None,
        }
    }
    if wish.contenders.is_empty() {
        wish.contenders = CONTENDERS.iter().collect();
    }
    Some(wish)
}

impl Wish {
    fn table(&self, title: &'static str, scenario: &Scenario) -> Table {
        let row = |contender: &&'static Contender| Row {
            name: contender.name,
            runs: scenario.runs(contender, self.extent),
        };
        Table {
            title,
            rows: self.contenders.iter().map(row).collect(),
        }
    }
}

fn print(table: &Table) {
    println!("\n### {}\n", table.title);
    println!("| policy | loads | p50 s | p95 s | p99 s | tokens/s in time | Jain | refused % |");
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    for Row { name, runs } in &table.rows {
        let (median, worst) = (Figures::median(runs), Figures::worst(runs));
        let cell = |of: fn(&Figures) -> f64, digits: usize| {
            format!("{:.digits$} ({:.digits$})", of(&median), of(&worst))
        };
        println!(
            "| {name} | {} | {} | {} | {} | {} | {} | {} |",
            cell(|run| run.loads, 0),
            cell(|run| run.p50, 1),
            cell(|run| run.p95, 1),
            cell(|run| run.p99, 1),
            cell(|run| run.goodput, 0),
            cell(|run| run.jain, 3),
            cell(|run| run.refused * 100.0, 1),
        );
    }
}

fn print_levels(levels: &[Table], names: &[&str]) {
    let head = LEVELS.map(|level| format!(" {:.0} % |", level * 100.0));
    let head = head.concat();
    let rule = "--:|".repeat(LEVELS.len());
    let row = |name: &str, of: fn(&Figures) -> f64| -> String {
        let figures = levels.iter().filter_map(|table| table.median(name));
        figures.map(|run| format!(" {:.0} |", of(&run))).collect()
    };
    println!("\n### p95 in seconds, the more there is to do\n");
    println!("| policy |{head}\n|---|{rule}");
    for name in names {
        println!("| {name} |{}", row(name, |run| run.p95));
    }
    println!("\n### Tokens per second in time, the more there is to do\n");
    println!("| policy |{head} kept of the best |\n|---|{rule}--:|");
    for name in names {
        let kept = goodput_kept(levels, name).unwrap_or(0.0);
        println!("| {name} |{} {kept:.2} |", row(name, |run| run.goodput));
    }
}

fn print_flood(calm: &Table, flood: &Table, names: &[&str]) {
    println!("\n### The nine tenants that do not flood, without the flood and with it\n");
    println!("| policy | p95 s | with it | median of the ratios | refused % | with it |");
    println!("|---|--:|--:|--:|--:|--:|");
    for name in names {
        let light = |table: &Table| table.median(name).map_or(0.0, |run| run.light_p95);
        let refused = |table: &Table| table.median(name).map_or(0.0, |run| run.light_refused);
        println!(
            "| {name} | {:.1} | {:.1} | {:.2} | {:.1} | {:.1} |",
            light(calm),
            light(flood),
            flood_factor(calm, flood, name).unwrap_or(0.0),
            refused(calm) * 100.0,
            refused(flood) * 100.0,
        );
    }
}
