//! Turns slices into tables: absolute values, and ratios between contenders of the same round.

use std::time::Duration;

use crate::contender::Contender;
use crate::measure::{Latency, Throughput};
use crate::streams::Streams;

/// What was measured of one contender, by round.
pub(crate) struct Tally {
    pub(crate) contender: Contender,
    pub(crate) throughput: Vec<Throughput>,
    pub(crate) latency: Vec<Latency>,
    pub(crate) streams: Vec<Streams>,
    /// Resident memory before the first stream, bytes; `None` for direct.
    pub(crate) idle_rss: Option<u64>,
}

impl Tally {
    fn rates(&self) -> Vec<f64> {
        self.throughput
            .iter()
            .map(|slice| slice.requests as f64 / slice.elapsed.as_secs_f64())
            .collect()
    }

    /// CPU per request, µs, over all rounds.
    fn request_us(&self) -> Option<f64> {
        let cpu: Option<Duration> = self.throughput.iter().map(|slice| slice.cpu).sum();
        let requests: u64 = self.throughput.iter().map(|slice| slice.requests).sum();
        ratio(cpu?.as_secs_f64() * 1e6, requests as f64)
    }

    /// CPU per 1000 tokens, ms, over all rounds.
    fn tokens_ms(&self) -> Option<f64> {
        let cpu: Option<Duration> = self.streams.iter().map(|slice| slice.cpu).sum();
        let tokens: u64 = self.streams.iter().map(|slice| slice.tokens).sum();
        ratio(cpu?.as_secs_f64() * 1e6, tokens as f64)
    }

    fn latency_us(&self, quantile: f64) -> Vec<f64> {
        let of_round = |slice: &Latency| at_quantile(&slice.samples, quantile);
        self.latency.iter().filter_map(of_round).collect()
    }

    fn token_us(&self, quantile: f64) -> Vec<f64> {
        let of_round = |slice: &Streams| at_quantile(&slice.delays, quantile);
        self.streams.iter().filter_map(of_round).collect()
    }

    /// Memory per 1000 open streams, MiB.
    fn streams_mib(&self, slice: Option<&Streams>) -> Option<f64> {
        let slice = slice?;
        let grown = slice.rss?.saturating_sub(self.idle_rss?);
        ratio(mib(grown) * 1000.0, slice.open as f64)
    }
}

/// Prints both tables.
pub(crate) fn print(tallies: &[Tally]) {
    println!("\nSmall chat requests, each answered with one document");
    print_table(&small(tallies));
    println!("\nStreams, one line per token");
    print_table(&streamed(tallies));
    if let Some(direct) = of(tallies, Contender::Direct) {
        let drift = spread(direct.rates()).unwrap_or(0.0) * 100.0;
        println!(
            "\nDirect drifted by {drift:.0} % between rounds (interquartile); above 15 % run again on a quieter machine."
        );
    }
}

fn small(tallies: &[Tally]) -> Vec<Vec<String>> {
    let direct = of(tallies, Contender::Direct);
    let haproxy = of(tallies, Contender::Haproxy);
    let pingora = of(tallies, Contender::Pingora);
    let mut rows = vec![words(&[
        "",
        "req/s",
        "/direct",
        "/HAProxy",
        "CPU µs/req",
        "/HAProxy",
        "/Pingora",
        "p50 +µs",
        "p99 +µs",
        "failed",
    ])];
    for tally in tallies {
        let rates = tally.rates();
        let rate_to = |other: Option<&Tally>| median(ratios(&rates, &other?.rates()));
        let cpu = tally.request_us();
        let cpu_to = |other: Option<&Tally>| ratio(cpu?, other?.request_us()?);
        let added = |quantile| {
            let base = direct?.latency_us(quantile);
            let ours = tally.latency_us(quantile);
            median(
                ours.iter()
                    .zip(base)
                    .map(|(ours, base)| ours - base)
                    .collect(),
            )
        };
        let failed: u64 = tally
            .throughput
            .iter()
            .map(|slice| slice.failed)
            .sum::<u64>()
            + tally.latency.iter().map(|slice| slice.failed).sum::<u64>();
        rows.push(vec![
            tally.contender.label().to_owned(),
            number(median(rates.clone()), 0),
            number(rate_to(direct), 2),
            number(rate_to(haproxy), 2),
            number(cpu, 1),
            number(cpu_to(haproxy), 2),
            number(cpu_to(pingora), 2),
            number(added(0.5), 0),
            number(added(0.99), 0),
            failed.to_string(),
        ]);
    }
    rows
}

fn streamed(tallies: &[Tally]) -> Vec<Vec<String>> {
    let haproxy = of(tallies, Contender::Haproxy);
    let pingora = of(tallies, Contender::Pingora);
    let mut rows = vec![words(&[
        "",
        "CPU ms/1000 tok",
        "/HAProxy",
        "/Pingora",
        "token p50 µs",
        "p99 µs",
        "idle MiB",
        "MiB/1000 streams",
        "last round",
        "broken",
    ])];
    for tally in tallies {
        let cpu = tally.tokens_ms();
        let cpu_to = |other: Option<&Tally>| ratio(cpu?, other?.tokens_ms()?);
        let broken: usize = tally.streams.iter().map(|slice| slice.broken).sum();
        rows.push(vec![
            tally.contender.label().to_owned(),
            number(cpu, 2),
            number(cpu_to(haproxy), 2),
            number(cpu_to(pingora), 2),
            number(median(tally.token_us(0.5)), 0),
            number(median(tally.token_us(0.99)), 0),
            number(tally.idle_rss.map(mib), 1),
            number(tally.streams_mib(tally.streams.first()), 1),
            number(tally.streams_mib(tally.streams.last()), 1),
            broken.to_string(),
        ]);
    }
    rows
}

fn of(tallies: &[Tally], contender: Contender) -> Option<&Tally> {
    tallies.iter().find(|tally| tally.contender == contender)
}

fn ratio(over: f64, under: f64) -> Option<f64> {
    (0.0 < under).then(|| over / under)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Round by round; a contender that broke off has fewer rounds.
fn ratios(over: &[f64], under: &[f64]) -> Vec<f64> {
    over.iter()
        .zip(under)
        .map(|(over, under)| over / under)
        .collect()
}

fn median(values: Vec<f64>) -> Option<f64> {
    quantile(values, 0.5)
}

/// The distance between the quartiles, as a share of the median.
fn spread(values: Vec<f64>) -> Option<f64> {
    let [low, high] = [0.25, 0.75].map(|at| quantile(values.clone(), at));
    ratio(high? - low?, median(values)?)
}

fn quantile(mut values: Vec<f64>, at: f64) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    let (below, above) = (last as f64 * at, (last as f64 * at).ceil());
    let (low, high) = (values[below as usize], values[above as usize]);
    Some(low + (high - low) * below.fract())
}

/// µs; the samples are sorted.
fn at_quantile(sorted: &[Duration], at: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[(last as f64 * at) as usize].as_secs_f64() * 1e6)
}

fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.decimals$}"))
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The first row is the head; the first column is text, the others are numbers.
fn print_table(rows: &[Vec<String>]) {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|c| width(c).unwrap_or(0)).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate();
        let line: Vec<String> = cells
            .map(|(column, (cell, width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            })
            .collect();
        println!("{}", line.join("  ").trim_end());
    }
}
