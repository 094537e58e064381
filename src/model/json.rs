//! JSON as text: the members of an object, the strings in it, and what it takes to read it.
//!
//! Values are kept as their own text and read later, so that what is wrong can be said with its key, and however deep a
//! value is it costs no stack. Two readers of one text must not be able to understand it differently: a key that
//! comes twice, or in other letters, is refused, never the last or the first taken (GUARANTEES B24).

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Why a text is not an object of the expected members.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ObjectError {
    /// It is no JSON, or a key has half a surrogate pair.
    Syntax,
    /// It is no object.
    NoObject,
    /// It has a key that is not expected. Case matters.
    Unknown,
    /// It has the key of this place in `names` twice.
    Twice(usize),
}

/// The values of `names` in the object `json`, each as its own text, in the order of `names`. Linear; takes no stack for
/// what is nested.
///
/// # Errors
/// [`ObjectError`]; tell whoever sent it.
pub fn members<'a, const N: usize>(
    json: &'a [u8],
    names: &[&str; N],
) -> Result<[Option<&'a RawValue>; N], ObjectError> {
    let whole: &RawValue = serde_json::from_slice(json).map_err(|_| ObjectError::Syntax)?;
    if !whole.get().starts_with('{') {
        return Err(ObjectError::NoObject);
    }
    let mut wrong = None;
    let members = Members { names, wrong: &mut wrong };
    let result = members.deserialize(&mut serde_json::Deserializer::from_str(whole.get()));
    // Without a word of ours a key has half a surrogate pair: but for that the text was found to be JSON.
    result.map_err(|_| wrong.unwrap_or(ObjectError::Syntax))
}

/// What a string of JSON stands for; `None` if `value` is none, or names half a surrogate pair. Borrowed unless something
/// in it is escaped.
pub fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    let inside = value.get().strip_prefix('"')?.strip_suffix('"')?;
    if inside.contains('\\') {
        return serde_json::from_str(value.get()).map(Cow::Owned).ok();
    }
    Some(Cow::Borrowed(inside))
}

/// Appends `text` to `out` as a string of JSON, quotes included. Linear.
pub fn append_string(text: &str, out: &mut Vec<u8>) {
    // A `Vec` takes everything, and a text is always a string of JSON.
    let _ = serde_json::to_writer(out, text);
}

/// How many arrays and objects are open at once, at most, in `json`, which is valid; 0 for any other value. Linear.
pub fn depth_of(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for token in (Tokens { rest: json.as_bytes() }) {
        match token {
            b"[" | b"{" => depth += 1,
            b"]" | b"}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Whether a number in `json`, which is valid, is too large for a double: readers disagree on what it is. Linear, with a few
/// steps for a digit.
pub fn has_endless_number(json: &str) -> bool {
    has_number(json, is_endless)
}

/// Whether a number in `json`, which is valid, is 1e308 or more, without its sign. Readers that round on the way, as serde_json
/// does unless told otherwise, find some of them too large that a double still holds. Linear.
pub fn has_huge_number(json: &str) -> bool {
    has_number(json, |number| power_of(number) >= ENDLESS_POWER)
}

/// Whether `json` has a number that `is_it`, which is 1e308 or more. Prices and the like are found to have none in a fraction
/// of a step for a byte.
fn has_number(json: &str, is_it: fn(&str) -> bool) -> bool {
    if !has_exponent(json.as_bytes()) && !has_digits_without_end(json.as_bytes()) {
        return false;
    }
    let is_number = |token: &&[u8]| token.first().is_some_and(is_number_byte);
    Tokens { rest: json.as_bytes() }
        .filter(is_number)
        .any(|token| std::str::from_utf8(token).is_ok_and(is_it))
}

/// Whether a digit is followed as in a number with an exponent.
fn has_exponent(json: &[u8]) -> bool {
    let pairs = json.iter().zip(json.iter().skip(1));
    // To the end though one is found: without branches many bytes are one instruction.
    pairs.fold(false, |has, (digit, e)| has | (digit.is_ascii_digit() & (*e | 0x20 == b'e')))
}

/// Whether there are so many digits in a row as only a huge number has.
fn has_digits_without_end(json: &[u8]) -> bool {
    // So many in a row have one at such a place, wherever they begin.
    (DIGITS_MAX..json.len()).step_by(DIGITS_MAX + 1).filter_map(|place| json.split_at_checked(place)).any(
        |(before, behind)| {
            let before = before.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
            let behind = behind.iter().take_while(|byte| byte.is_ascii_digit()).count();
            before + behind > DIGITS_MAX
        },
    )
}

/// Whether a string in `json`, which is valid, has half a surrogate pair: it stands for no text, and readers disagree on
/// what it is (RFC 8259 §8.2). Linear.
pub fn has_half_pair(json: &str) -> bool {
    let mut rest = json;
    // Only strings have backslashes, and behind each of them is a character of one byte.
    while let Some(escape) = rest.find('\\').and_then(|start| rest.get(start..)) {
        let length = match unit_of(escape) {
            None => 2,
            Some(0xD800..0xDC00) if matches!(escape.get(6..).and_then(unit_of), Some(0xDC00..0xE000)) => 12,
            Some(0xD800..0xE000) => return true,
            Some(_) => 6,
        };
        rest = escape.get(length..).unwrap_or_default();
    }
    false
}

/// The UTF-16 unit that `escape` begins with, if it writes one by its number.
fn unit_of(escape: &str) -> Option<u16> {
    escape.strip_prefix("\\u")?.get(..4).and_then(|digits| u16::from_str_radix(digits, 16).ok())
}

/// The digits of 2^1024 - 2^970, half way between the largest double and the one that would follow it: the least number
/// that is rounded to infinity (IEEE 754 §4.3.1).
const ENDLESS_FROM: &str = "1797693134862315807937289714053034150799341327100378269361737789804449682927647509466490179775872070\
    9633028641669288791094655554785194040263065748867150582068190890200070838367627385484581771153176447\
    5730270069855571366959622842914819860834936475292719074168444365510704342711559699508093042880177904\
    174497792";
/// The power of ten that the first of them stands for.
const ENDLESS_POWER: i64 = 308;
/// Most digits of a number that without an exponent is below 1e308, whatever they are.
const DIGITS_MAX: usize = 308;

/// Whether `number`, as JSON writes it, is too large for a double. By its digits: to read a number that lies next to half
/// way between two doubles takes thousands of steps, and whoever sends one chooses which.
fn is_endless(number: &str) -> bool {
    match power_of(number).cmp(&ENDLESS_POWER) {
        Ordering::Less => false,
        Ordering::Equal => digits_of(number).skip_while(|digit| *digit == b'0').ge(ENDLESS_FROM.bytes()),
        Ordering::Greater => true,
    }
}

/// The power of ten that the first digit of `number` stands for which is not zero; the least for zero.
fn power_of(number: &str) -> i64 {
    let number = number.strip_prefix('-').unwrap_or(number);
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let whole = mantissa.split_once('.').map_or(mantissa, |(whole, _)| whole);
    let Some(zeros) = digits_of(number).position(|digit| digit != b'0') else { return i64::MIN };
    // An exponent that 64 bits cannot hold is beyond what any number of zeros makes up for.
    let beyond = if exponent.starts_with('-') { i64::MIN } else { i64::MAX };
    (whole.len() as i64 - 1 - zeros as i64).saturating_add(exponent.parse().unwrap_or(beyond))
}

/// The digits of `number` in front of its exponent.
fn digits_of(number: &str) -> impl Iterator<Item = u8> {
    number.bytes().take_while(|byte| !matches!(byte, b'e' | b'E')).filter(u8::is_ascii_digit)
}

/// Strings and numbers of a valid text as a whole, everything else byte by byte.
struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let length = match self.rest.first()? {
            b'"' => string_length(self.rest),
            first if is_number_byte(first) => self
                .rest
                .iter()
                .take_while(|byte| is_number_byte(byte) || matches!(byte, b'.' | b'e' | b'E' | b'+'))
                .count(),
            _ => 1,
        };
        let (token, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(token)
    }
}

/// Bytes of the string at the front of `json`, quotes included.
fn string_length(json: &[u8]) -> usize {
    let mut is_escaped = false;
    let is_end = |byte: &u8| {
        let is_end = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        is_end
    };
    let inside = json.iter().skip(1).position(is_end);
    inside.map_or(json.len(), |length| length + 2)
}

/// Whether a number may begin so.
const fn is_number_byte(byte: &u8) -> bool {
    matches!(byte, b'-' | b'0'..=b'9')
}

/// Reads the members of an object; what is wrong with them goes to `wrong`, past the parser's own words.
struct Members<'n, const N: usize> {
    names: &'n [&'n str; N],
    wrong: &'n mut Option<ObjectError>,
}

impl<'a, const N: usize> DeserializeSeed<'a> for Members<'_, N> {
    type Value = [Option<&'a RawValue>; N];

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a, const N: usize> Visitor<'a> for Members<'_, N> {
    type Value = [Option<&'a RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut values = [None; N];
        while let Some(Name(name)) = members.next_key()? {
            let place = self.names.iter().position(|known| *known == name);
            let Some((place, value)) = place.and_then(|place| Some((place, values.get_mut(place)?))) else {
                *self.wrong = Some(ObjectError::Unknown);
                return Err(A::Error::custom("unknown"));
            };
            if value.replace(members.next_value()?).is_some() {
                *self.wrong = Some(ObjectError::Twice(place));
                return Err(A::Error::custom("twice"));
            }
        }
        Ok(values)
    }
}

/// A key, borrowed unless something in it is escaped.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn read(json: &str) -> Result<[Option<&str>; 2], ObjectError> {
        members(json.as_bytes(), &["a", "b"]).map(|values| values.map(|value| value.map(RawValue::get)))
    }

    #[test]
    fn members_come_in_any_order_each_as_its_own_text() {
        assert_eq!(read(r#"{"b": [1, 2] , "a":1e999}"#), Ok([Some("1e999"), Some("[1, 2]")]));
        assert_eq!(read(r#" {"\u0061":"\ud800"} "#), Ok([Some(r#""\ud800""#), None]));
        assert_eq!(read("{}"), Ok([None, None]));
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(read(&format!("{{\"a\":{deep}}}")), Ok([Some(&deep[..]), None]));
    }

    #[test]
    fn b24_an_object_that_two_readers_could_understand_differently_is_none() {
        for (json, expected) in [
            (r#"{"a":1,"a":1}"#, ObjectError::Twice(0)),
            (r#"{"b":1,"a":1,"\u0062":1}"#, ObjectError::Twice(1)),
            (r#"{"A":1}"#, ObjectError::Unknown),
            (r#"{"":1}"#, ObjectError::Unknown),
            (r#"["a"]"#, ObjectError::NoObject),
            ("1", ObjectError::NoObject),
            (r#"{"\ud800":1}"#, ObjectError::Syntax),
            (r#"{"a":1}{}"#, ObjectError::Syntax),
            (r#"{"a":01}"#, ObjectError::Syntax),
            ("", ObjectError::Syntax),
        ] {
            assert_eq!(read(json), Err(expected), "{json}");
        }
        assert_eq!(members(b"{\"a\":\"\xff\"}", &["a"]).map(|_| ()), Err(ObjectError::Syntax));
    }

    #[test]
    fn depth_counts_what_is_open_at_once_outside_of_strings() {
        for (json, depth) in [
            ("1", 0),
            ("[]", 1),
            ("[[],{}]", 2),
            (r#"{"a":[{"b":"[[[\"[["}],"c":[[[]]]}"#, 4),
            (r#"["\\",["\\\""]]"#, 2),
        ] {
            assert_eq!(depth_of(json), depth, "{json}");
        }
    }

    #[test]
    fn endless_numbers_are_found_outside_of_strings_alone() {
        let zeros = "0".repeat(400);
        let (last, before_last) = ENDLESS_FROM.split_at(308);
        for endless in [
            "1e999",
            "[-1E+400]",
            r#"{"a":[0,1e309]}"#,
            &"9".repeat(400),
            &format!("1{zeros}"),
            &format!("0.{zeros}1e800"),
            "1e99999999999999999999",
            ENDLESS_FROM,
            &format!("-{ENDLESS_FROM}.000"),
        ] {
            assert!(has_endless_number(endless), "{endless}");
        }
        for fine in [
            "1e308",
            "1e-999",
            r#"{"1e999":"1e999"}"#,
            "-0",
            "0e999",
            "0.0e99999999999999999999",
            "[1,2,3,4e5]",
            "true",
            &format!("1{zeros}e-400"),
            &format!("0.{zeros}1e700"),
            "1e-99999999999999999999",
            "1.7976931348623158e308",
            &format!("{last}1.999"),
        ] {
            assert!(!has_endless_number(fine), "{fine}");
        }
        assert_eq!(before_last, "2", "one less is the largest double");
        let (endless, fine) = ("9".repeat(DIGITS_MAX + 1), "9".repeat(DIGITS_MAX));
        for place in 0..1000 {
            assert!(has_endless_number(&format!("[{:place$}{endless}]", "")), "behind {place}");
            assert!(!has_huge_number(&format!("[{:place$}{fine}]", "")), "behind {place}");
        }
    }

    #[test]
    fn what_readers_that_round_on_the_way_cannot_hold_is_huge() {
        let largest = "1.7976931348623158e308";
        assert!(serde_json::from_str::<Value>(largest).is_err() && !has_endless_number(largest));
        for huge in
            [largest, "-1e308", "[0.001E+311]", &format!("1{}", "0".repeat(308)), &f64::MAX.to_string()]
        {
            assert!(has_huge_number(huge), "{huge}");
        }
        for fine in ["9.999e307", "1e-308", "0e999", r#""1e308""#, "0.00001e312"] {
            assert!(!has_huge_number(fine), "{fine}");
            assert!(serde_json::from_str::<Value>(fine).is_ok(), "{fine}");
        }
    }

    #[test]
    fn half_a_pair_is_found_wherever_it_stands() {
        for half in [
            r#""\ud800""#,
            r#"[1,"a\uDFFFb"]"#,
            r#"{"\udbff":1}"#,
            r#""\ud83d\ud83d\ude00""#,
            r#""\ude00\ud83d""#,
            r#""\ud83d\\ude00""#,
            r#""\ud83d\u0041""#,
            r#""\\\ud83d""#,
        ] {
            assert!(serde_json::from_str::<Value>(half).is_err() && has_half_pair(half), "{half}");
        }
        for whole in
            [r#""\ud83d\ude00\u0000\n""#, r#""\\ud800""#, r#""\u00e9\ud7ff\ue000""#, "12", r#""\"\\""#]
        {
            assert!(serde_json::from_str::<Value>(whole).is_ok() && !has_half_pair(whole), "{whole}");
        }
    }

    /// Numbers around the least endless one, and of any other size, in all the ways to write them.
    fn numbers() -> impl Strategy<Value = String> {
        let around = (0_usize..320, -3_i64..=3, -2_i32..=2).prop_map(|(digits, last, power)| {
            let mut text: Vec<u8> =
                ENDLESS_FROM.bytes().chain(std::iter::repeat(b'0')).take(digits.max(1)).collect();
            if let Some(digit) = text.last_mut() {
                *digit = (i64::from(*digit) + last).clamp(i64::from(b'0'), i64::from(b'9')) as u8;
            }
            let text = String::from_utf8(text).unwrap();
            format!("{}.{}1e{}", &text[..1], &text[1..], 308 + power)
        });
        prop_oneof![
            around,
            "-?(0|[1-9][0-9]{0,330})(\\.[0-9]{1,40})?([eE][+-]?[0-9]{1,4})?",
            "-?0\\.0{0,400}[0-9]{1,30}([eE][+-]?[0-9]{1,4})?",
            "-?[1-9][0-9]{0,30}[eE][+-]?0{0,30}[0-9]{1,40}",
        ]
    }

    fn depth_of_tree(tree: &Value) -> usize {
        match tree {
            Value::Array(items) => 1 + items.iter().map(depth_of_tree).max().unwrap_or(0),
            Value::Object(fields) => 1 + fields.values().map(depth_of_tree).max().unwrap_or(0),
            _ => 0,
        }
    }

    fn trees() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![".*".prop_map(Value::from), any::<f64>().prop_map(Value::from), Just(Value::Null)];
        leaf.prop_recursive(6, 40, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec((r#"[\[\]{}"\\a]*"#, inner), 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn depth_is_that_of_the_tree(tree in trees()) {
            let json = tree.to_string();
            prop_assert_eq!(depth_of(&json), depth_of_tree(&tree));
            prop_assert!(!has_endless_number(&json));
        }

        /// Against a reader that makes texts of them.
        #[test]
        fn a_string_has_half_a_pair_if_it_is_no_text(inside in r#"(\\u(d[89abcdef]|00)[0-9a-f]{2}|\\\\|\\n|u|d800|é){0,8}"#) {
            let json = format!("\"{inside}\"");
            prop_assert_eq!(has_half_pair(&json), serde_json::from_str::<String>(&json).is_err(), "{}", json);
        }

        /// Against a reader that rounds on the way.
        #[test]
        fn a_number_that_is_not_huge_can_be_read(number in numbers()) {
            prop_assert!(has_huge_number(&number) || serde_json::from_str::<Value>(&number).is_ok(), "{}", number);
        }

        /// Against the reader of the standard library, which rounds correctly.
        #[test]
        fn a_number_is_endless_if_a_double_is(number in numbers()) {
            let read: f64 = number.parse().unwrap();
            prop_assert_eq!(has_endless_number(&number), read.is_infinite(), "{}", number);
        }

        #[test]
        fn a_text_comes_back_from_its_string(text in ".*") {
            let mut json = Vec::new();
            append_string(&text, &mut json);
            let raw: &RawValue = serde_json::from_slice(&json).unwrap();
            let read = string(raw);
            prop_assert_eq!(read.as_deref(), Some(&text[..]));
        }
    }
}
