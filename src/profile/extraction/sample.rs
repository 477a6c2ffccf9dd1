//! What an answer has for an extraction, not read before somebody wants the values: most are never asked for.

use std::sync::Arc;
use std::time::Duration;

use super::value::Value;
use super::{Extracted, Extraction, walk};

/// The frames and headers of one answer that an extraction reads.
#[derive(Debug)]
pub struct Sample {
    extraction: Arc<Extraction>,
    /// The oldest first: of several values of one path the last one counts.
    frames: Vec<Vec<u8>>,
    /// In the order of the extraction's headers.
    headers: Vec<Option<String>>,
    took: Duration,
}

impl Sample {
    /// `frames` are the kept ones, the oldest first; `header` tells the value of a header of the answer, `took` how long the request
    /// has taken.
    pub fn new(
        extraction: Arc<Extraction>,
        frames: Vec<Vec<u8>>,
        header: &dyn Fn(&str) -> Option<String>,
        took: Duration,
    ) -> Sample {
        Sample {
            headers: extraction.headers.iter().map(|name| header(name)).collect(),
            extraction,
            frames,
            took,
        }
    }

    /// How much memory it holds, about.
    pub fn bytes(&self) -> usize {
        let headers = self.headers.iter().flatten().map(String::len);
        headers.chain(self.frames.iter().map(Vec::len)).sum()
    }

    /// Reads it.
    pub fn values(&self) -> Extracted {
        let extraction = &*self.extraction;
        let mut values = vec![None; extraction.paths.len()];
        for frame in &self.frames {
            for (value, newer) in values
                .iter_mut()
                .zip(walk::values(frame, &extraction.paths))
            {
                *value = newer.or(value.take());
            }
        }
        let headers = self.headers.iter();
        values.extend(headers.map(|text| text.as_deref().map(Value::header)));
        values.push(Value::number(self.took.as_secs_f64() * 1000.0));
        // Calculations see the response time behind the headers, and each other behind that.
        for calculation in &extraction.calculations {
            values.push(calculation.evaluate(&values));
        }
        values.remove(extraction.paths.len() + extraction.headers.len());
        let named = extraction.names.iter().zip(values);
        named
            .filter_map(|(name, value)| Some((name.clone(), value?)))
            .collect()
    }
}
