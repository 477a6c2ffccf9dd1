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
    print_ratios(&levels, &calm, &flood);
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

/// What compares one run with another: the flood with the calm, and the levels of work with each other.
fn print_ratios(levels: &[Table], calm: &Table, flood: &Table) {
    println!("\n### What is left under too much work\n");
    let percent = LEVELS.map(|level| format!(" {:.0} % |", level * 100.0));
    println!(
        "| policy | tokens/s in time at{} kept of the best | light p95 s | with the flood | factor |",
        percent.concat()
    );
    println!("|---|{}--:|--:|--:|--:|", "--:|".repeat(LEVELS.len()));
    for Row { name, .. } in &calm.rows {
        let light = |table: &Table| table.median(name).map_or(0.0, |run| run.light_p95);
        let goodputs = levels.iter().filter_map(|table| table.median(name));
        let goodputs: String = goodputs
            .map(|run| format!("{:.0} | ", run.goodput))
            .collect();
        println!(
            "| {name} | {goodputs}{:.2} | {:.1} | {:.1} | {:.1} |",
            goodput_kept(levels, name).unwrap_or(0.0),
            light(calm),
            light(flood),
            flood_factor(calm, flood, name).unwrap_or(0.0),
        );
    }
}
