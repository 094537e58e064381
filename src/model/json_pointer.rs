//! Pointers into JSON (RFC 6901): where in a payload its key stands.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::key::MessageKey;
use super::publication::PayloadKind;

/// Longest pointer in bytes.
pub const JSON_POINTER_BYTES_MAX: usize = 256;
/// Most steps of a pointer.
pub const JSON_POINTER_STEPS_MAX: usize = 16;

/// A valid pointer: empty for the whole document, or steps that each begin with `/`, with `~1` for `/` and `~0` for `~`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JsonPointer {
    text: String,
    steps: Vec<String>,
}

/// Why a text is not a [`JsonPointer`]; its display says what to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JsonPointerError {
    /// It neither is empty nor begins with `/`.
    #[error("begin it with `/`, as in /symbol")]
    Start,
    /// A `~` before anything but `0` and `1`.
    #[error("write `~0` for `~` and `~1` for `/` in a name")]
    Escape,
    /// More than [`JSON_POINTER_BYTES_MAX`] bytes or [`JSON_POINTER_STEPS_MAX`] steps.
    #[error("write at most 256 bytes and 16 steps")]
    TooLong,
}

impl JsonPointer {
    /// Checks and keeps `text`.
    ///
    /// # Errors
    /// [`JsonPointerError`] when it breaks the rules of the type.
    pub fn parse(text: &str) -> Result<Self, JsonPointerError> {
        if text.len() > JSON_POINTER_BYTES_MAX {
            return Err(JsonPointerError::TooLong);
        }
        let mut steps = text.split('/');
        if steps.next() != Some("") {
            return Err(JsonPointerError::Start);
        }
        let steps: Vec<String> = steps.map(unescaped).collect::<Result<_, _>>()?;
        if steps.len() > JSON_POINTER_STEPS_MAX {
            return Err(JsonPointerError::TooLong);
        }
        Ok(Self { text: text.to_owned(), steps })
    }

    /// The pointer as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// As [`Self::key_in`]; a binary payload has none.
    pub fn key_of(&self, kind: PayloadKind, payload: &[u8]) -> Option<MessageKey> {
        match kind {
            PayloadKind::Text => self.key_in(payload),
            PayloadKind::Binary => None,
        }
    }

    /// The key of a message with this `payload`: the string, or the digits of the number as they are written, that stands
    /// where the pointer points; of a name that an object has twice the last counts. `None` if the payload is not JSON, if
    /// nothing or something else stands there, and if it is no valid key. One walk over the payload; takes no stack for
    /// what is nested beside the way.
    pub fn key_in(&self, payload: &[u8]) -> Option<MessageKey> {
        let text = std::str::from_utf8(payload).ok()?;
        let mut json = serde_json::Deserializer::from_str(text);
        let found = Find { steps: &self.steps }.deserialize(&mut json).ok()?;
        json.end().ok()?;
        MessageKey::parse(&as_key(found?.get())?).ok()
    }
}

impl fmt::Display for JsonPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn unescaped(step: &str) -> Result<String, JsonPointerError> {
    let mut parts = step.split('~');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (sign, rest) = match (part.strip_prefix('0'), part.strip_prefix('1')) {
            (Some(rest), _) => ('~', rest),
            (_, Some(rest)) => ('/', rest),
            _ => return Err(JsonPointerError::Escape),
        };
        plain.push(sign);
        plain.push_str(rest);
    }
    Ok(plain)
}

/// What a string stands for, or a number's digits.
fn as_key(value: &str) -> Option<Cow<'_, str>> {
    match value.as_bytes().first()? {
        b'"' if value.contains('\\') => serde_json::from_str::<String>(value).ok().map(Cow::Owned),
        b'"' => value.strip_prefix('"')?.strip_suffix('"').map(Cow::Borrowed),
        b'-' | b'0'..=b'9' => Some(Cow::Borrowed(value)),
        _ => None,
    }
}

/// Finds the value behind `steps`.
struct Find<'p> {
    steps: &'p [String],
}

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        match self.steps {
            [] => <&RawValue as serde::Deserialize>::deserialize(deserializer).map(Some),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Some((step, steps)) = self.steps.split_first() else { return Ok(None) };
        let mut found = None;
        while let Some(is_it) = map.next_key_seed(Is(step))? {
            if is_it {
                found = map.next_value_seed(Find { steps })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let Some((step, steps)) = self.steps.split_first() else { return Ok(None) };
        // RFC 6901 §4: no leading zeros; `-` is the item that is not there yet.
        let is_index = step == "0" || !step.starts_with(['0', '+']);
        let wanted = step.parse::<usize>().ok().filter(|_| is_index);
        let mut found = None;
        for place in 0.. {
            if Some(place) == wanted {
                let Some(value) = list.next_element_seed(Find { steps })? else { break };
                found = value;
            } else if list.next_element::<IgnoredAny>()?.is_none() {
                break;
            }
        }
        Ok(found)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Whether a member has this name.
struct Is<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(pointer: &str, payload: &str) -> Option<String> {
        let key = JsonPointer::parse(pointer).unwrap().key_in(payload.as_bytes());
        key.map(|key| key.as_str().to_owned())
    }

    #[test]
    fn a_pointer_is_steps_of_escaped_names() {
        let long = format!("/{}", "a".repeat(255));
        let deep = "/a".repeat(16);
        for good in ["", "/", "/a", "/a~1b/m~0n/0", "/\u{e4} \"", long.as_str(), deep.as_str()] {
            assert_eq!(JsonPointer::parse(good).unwrap().as_str(), good);
        }
        let (longer, deeper) = (format!("{long}a"), format!("{deep}/a"));
        for (bad, error) in [
            ("a", JsonPointerError::Start),
            ("#/a", JsonPointerError::Start),
            ("/~", JsonPointerError::Escape),
            ("/a~2", JsonPointerError::Escape),
            (longer.as_str(), JsonPointerError::TooLong),
            (deeper.as_str(), JsonPointerError::TooLong),
        ] {
            assert_eq!(JsonPointer::parse(bad), Err(error), "{bad}");
        }
    }

    #[test]
    fn a_string_or_a_number_there_is_the_key() {
        // The document of RFC 6901 §5, with values that are keys.
        let document =
            r#"{"foo":["bar","baz"],"":"0","a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8}"#;
        for (pointer, found) in [
            ("/foo/0", "bar"),
            ("/foo/1", "baz"),
            ("/", "0"),
            ("/a~1b", "1"),
            ("/c%d", "2"),
            ("/e^f", "3"),
            ("/g|h", "4"),
            ("/i\\j", "5"),
            ("/k\"l", "6"),
            ("/ ", "7"),
            ("/m~0n", "8"),
        ] {
            assert_eq!(key(pointer, document).as_deref(), Some(found), "{pointer}");
        }
        for (payload, found) in [
            (r#"{"a":{"b":-1.50e3}}"#, "-1.50e3"),
            (r#" { "a" : { "b" : "x" } } "#, "x"),
            (r#"{"a":{"b":"\u00e4\"1"}}"#, "\u{e4}\"1"),
            (r#"{"\u0061":{"b":"x"}}"#, "x"),
            (r#"{"a":{"b":"x","b":"y"}}"#, "y"),
            (r#"{"a":1,"a":{"b":1e999},"c":[[{}],1e999]}"#, "1e999"),
        ] {
            assert_eq!(key("/a/b", payload).as_deref(), Some(found), "{payload}");
        }
        assert_eq!(key("", "\"BTC\"").as_deref(), Some("BTC"));
        let whole = JsonPointer::parse("").unwrap();
        assert!(whole.key_of(PayloadKind::Text, b"1").is_some());
        assert_eq!(whole.key_of(PayloadKind::Binary, b"1"), None);
    }

    #[test]
    fn anything_else_there_is_no_key() {
        let deep = format!("{{\"a\":{{\"b\":{}1{}}}}}", "[".repeat(100_000), "]".repeat(100_000));
        let long = format!(r#"{{"a":{{"b":"{}"}}}}"#, "k".repeat(129));
        for payload in [
            "",
            "1",
            "\"a\"",
            "null",
            "{}",
            r#"{"a":1.5}"#,
            r#"{"a":-1}"#,
            r#"{"a":[]}"#,
            r#"{"a":{"b":null}}"#,
            r#"{"a":{"b":true}}"#,
            r#"{"a":{"b":["x"]}}"#,
            r#"{"a":{"b":""}}"#,
            r#"{"a":{"b":"\n"}}"#,
            r#"{"a":{"b":"\ud800"}}"#,
            r#"{"a":{"b":"x"}"#,
            r#"{"a":{"b":"x"}} 1"#,
            r#"{"a":{"b":"x","b":{}}}"#,
            r#"{"a":{"b":"x"},"a":0}"#,
            deep.as_str(),
            long.as_str(),
        ] {
            assert_eq!(key("/a/b", payload), None, "{payload}");
        }
        for pointer in ["/2", "/-", "/00", "/+0", "/a", "/99999999999999999999"] {
            assert_eq!(key(pointer, r#"["x","y"]"#), None, "{pointer}");
        }
        assert_eq!(JsonPointer::parse("").unwrap().key_in(b"\"\xff\""), None);
    }
}
