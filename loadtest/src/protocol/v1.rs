//! tidegate.v1: every text of the server is one JSON object, a message in its envelope or something else with a `type`.

use std::borrow::Cow;

use serde_json::Value;

/// The subprotocol to ask for.
pub const SUBPROTOCOL: &str = "tidegate.v1";

/// Where the value of a message begins that is JSON. What stands before it has strings only, and no quote in them is bare.
const DATA: &[u8] = b",\"data\":";

/// What the server said.
#[derive(Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// A message, as it was published, and its key.
    Message(Cow<'a, [u8]>, Option<String>),
    /// Where the subscription stands, or what was left out.
    Notice,
}

/// Takes one text apart.
///
/// # Errors
/// It is none that the protocol has, an error, or of another channel.
pub fn read<'a>(text: &'a [u8], channel: &str) -> Result<Said<'a>, String> {
    let told = || String::from_utf8_lossy(&text[..text.len().min(200)]).escape_debug().to_string();
    let broken = |what: &str| format!("the server broke tidegate.v1: {what}: {}", told());
    let value: Value = serde_json::from_slice(text).map_err(|_| broken("no JSON"))?;
    if value["type"] == "error" {
        return Err(format!("the server refused a command: {}", told()));
    }
    if value["channel"] != channel {
        return Err(broken("another channel"));
    }
    if value["type"].is_string() {
        return Ok(Said::Notice);
    }
    let key = value["key"].as_str().map(str::to_owned);
    let offset = value["position"].as_str().and_then(|position| position.rsplit_once('-'));
    if offset.is_none_or(|(_, offset)| offset.parse::<u64>().is_err()) {
        return Err(broken("a message without a position"));
    }
    let payload = match (&value["text"], text.windows(DATA.len()).position(|window| window == DATA)) {
        (Value::String(text), _) => Cow::Owned(text.clone().into_bytes()),
        (_, Some(at)) => Cow::Borrowed(&text[at + DATA.len()..text.len() - 1]),
        _ => return Err(broken("a message that was not published as text")),
    };
    Ok(Said::Message(payload, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_they_were_published() {
        let message = |payload: &'static [u8], key: Option<&str>| {
            Ok(Said::Message(Cow::Borrowed(payload), key.map(str::to_owned)))
        };
        let text = br#"{"channel":"a","position":"00ff-7","text":"say \"x\""}"#;
        assert_eq!(read(text, "a"), message(b"say \"x\"", None));
        let json = br#"{"channel":"a","position":"00ff-7","key":",\"data\":","data":{"b": 1.0,"data":2}}"#;
        assert_eq!(read(json, "a"), message(br#"{"b": 1.0,"data":2}"#, Some(",\"data\":")));
    }

    #[test]
    fn notices_are_told_from_messages_and_errors_from_both() {
        assert_eq!(
            read(br#"{"type":"subscribed","channel":"a","position":"00ff-7"}"#, "a"),
            Ok(Said::Notice)
        );
        for (text, named) in [
            (&br#"{"type":"error","id":1,"error":"not_allowed","message":"m"}"#[..], "not_allowed"),
            (br#"{"channel":"b","position":"00ff-7","text":"x"}"#, "another channel"),
            (br#"{"channel":"a","text":"x"}"#, "without a position"),
            (br#"{"channel":"a","position":"00ff-7","base64":"eA=="}"#, "not published as text"),
            (b"tide", "no JSON"),
        ] {
            let error = read(text, "a").expect_err(named);
            assert!(error.contains(named) && error.len() < 400, "{error}");
        }
    }
}
