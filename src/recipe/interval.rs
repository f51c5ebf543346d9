//! Intervals, counts and durations of a run in their text form: `500steps`, `5epochs`, `10times`, `never`, `90s`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// An interval in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interval {
    /// `500steps`: after every 500th step.
    Steps(u64),
    /// `5epochs`: after every fifth epoch.
    Epochs(u64),
    /// `10times`: ten times in a run, each after an epoch, the last time after the last epoch; after every epoch in a run of fewer
    /// epochs.
    Times(u64),
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = match self {
            Self::Steps(every) => (every, "step"),
            Self::Epochs(every) => (every, "epoch"),
            Self::Times(times) => (times, "time"),
        };
        write!(f, "{number}{unit}{}", if *number == 1 { "" } else { "s" })
    }
}

impl FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let number = digits.parse().ok().filter(|&number| (1..=1_000_000_000).contains(&number));
        match (number, &text[digits.len()..]) {
            (Some(every), "step" | "steps") => Ok(Self::Steps(every)),
            (Some(every), "epoch" | "epochs") => Ok(Self::Epochs(every)),
            (Some(times), "time" | "times") => Ok(Self::Times(times)),
            _ => {
                Err("an interval is a number from 1 to 1000000000 with its unit, such as 500steps, 5epochs or 10times"
                    .into())
            }
        }
    }
}

/// The interval between evaluations; `None` for never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvalInterval(pub Option<Interval>);

impl fmt::Display for EvalInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(interval) => interval.fmt(f),
            None => f.write_str("never"),
        }
    }
}

impl FromStr for EvalInterval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" { Ok(Self(None)) } else { text.parse().map(|interval| Self(Some(interval))) }
    }
}

/// The number of checkpoints that a run keeps, at least one; `None` for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptCheckpoints(pub Option<usize>);

impl fmt::Display for KeptCheckpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(count) => count.fmt(f),
            None => f.write_str("all"),
        }
    }
}

impl FromStr for KeptCheckpoints {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "all" => Ok(Self(None)),
            Ok(number) if number > 0 => Ok(Self(Some(number))),
            _ => Err("choose a number from 1 on, or all".into()),
        }
    }
}

/// The length of a run in time, 1 s to 365 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimit(pub Duration);

impl TimeLimit {
    /// The shortest run. A shorter one would end before the first step.
    const SHORTEST: Duration = Duration::from_secs(1);
    /// The longest run. A longer one is probably a typing mistake.
    const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
}

impl fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl FromStr for TimeLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = humantime::parse_duration(text).map_err(|error| format!("{error}; a time is 90s, 5m or 1h30m"))?;
        if (Self::SHORTEST..=Self::LONGEST).contains(&time) {
            Ok(Self(time))
        } else {
            Err(format!("{} is out of range 1s..=365d", humantime::format_duration(time)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_parse_as_they_are_printed_and_others_are_refused() {
        for interval in [Interval::Steps(500), Interval::Epochs(5), Interval::Times(10), Interval::Epochs(1)] {
            assert_eq!(interval.to_string().parse(), Ok(interval));
            assert_eq!(interval.to_string().parse(), Ok(EvalInterval(Some(interval))));
        }
        assert_eq!(Interval::Epochs(1).to_string(), "1epoch");
        for nonsense in ["", "5", "0steps", "-1steps", "5 parsecs", "steps", "9999999999999steps", "5epochsé", "0times"]
        {
            assert!(nonsense.parse::<Interval>().is_err(), "{nonsense}");
        }
        for kept in [KeptCheckpoints(None), KeptCheckpoints(Some(3))] {
            assert_eq!(kept.to_string().parse(), Ok(kept));
        }
        assert!("0".parse::<KeptCheckpoints>().is_err());
        assert_eq!(EvalInterval(None).to_string().parse(), Ok(EvalInterval(None)));
        assert_eq!("1h30m".parse(), Ok(TimeLimit(Duration::from_secs(5400))));
        for nonsense in ["", "5", "0s", "366d", "999ms"] {
            assert!(nonsense.parse::<TimeLimit>().is_err(), "{nonsense}");
        }
    }
}
