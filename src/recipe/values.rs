//! Parsers of option values: integers and numbers within a range, and types with a text form.

use std::fmt::{self, Debug, Display};
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds, RangeInclusive};
use std::str::FromStr;

use serde::{Deserializer, Serializer, de};

/// Reads a whole number within a range.
pub(super) fn whole<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number: i128 = text.parse().map_err(|_| format!("{text:?} is not a whole number"))?;
        let within = u64::try_from(number).ok().filter(|number| range.contains(number));
        let number = within.and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| format!("{text} is out of range {}..={}", range.start(), range.end()))
    }
}

/// Reads a number within a range. The number must also be in the range after rounding to single precision, as devices use it.
pub(super) fn number(
    range: impl RangeBounds<f64> + Debug + Clone + Send + Sync + 'static,
) -> impl Fn(&str) -> Result<f64, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
        let rounded = f64::from(number as f32);
        // A bound that is not an f32 may be exceeded by rounding.
        let rounds_out = matches!(range.end_bound(), Bound::Excluded(end) if rounded >= *end);
        if range.contains(&number) && !rounds_out {
            Ok(number)
        } else {
            Err(format!("{text} is out of range {range:?}"))
        }
    }
}

/// Reads a path of any bytes as a text, of which [`crate::files::path_of`] makes the path again.
#[cfg(feature = "cli")]
pub(crate) fn path() -> impl clap::builder::TypedValueParser<Value = String> {
    use clap::builder::{OsStringValueParser, TypedValueParser};
    OsStringValueParser::new().map(|path| crate::files::text_of(std::path::Path::new(&path)))
}

/// Stores an optional value as its text, or as an integer if the text is one.
#[expect(clippy::ref_option, reason = "serde passes fields by reference")]
pub(super) fn serialize<T: Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    let Some(value) = value else { return serializer.serialize_none() };
    let text = value.to_string();
    match text.parse() {
        Ok(number) => serializer.serialize_u64(number),
        Err(_) => serializer.serialize_str(&text),
    }
}

/// Reads a value that [`serialize`] stored. A list of texts is joined by commas.
pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: FromStr<Err: Display>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_any(TextVisitor(PhantomData)).map(Some)
}

/// Parses a `T` from a text, an integer or a list of texts.
struct TextVisitor<T>(PhantomData<T>);

impl<'de, T: FromStr<Err: Display>> de::Visitor<'de> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text or a whole number")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<T, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = list.next_element::<String>()? {
            texts.push(text);
        }
        self.visit_str(if texts.is_empty() { "none".into() } else { texts.join(",") }.as_str())
    }
}
