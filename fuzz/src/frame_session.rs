//! What a client says after the handshake: any bytes, any cuts, with and without compression, under several limits.
//!
//! Input: a byte of switches, one for each limit, cuts, then the bytes of a connection. In pieces, with the context dropped at every
//! message boundary as the shard does it, the same must be heard as in one piece, and nothing beyond the limits.

use tidegate::config::MessageType;
use tidegate::model::{CloseReason, PayloadKind};
use tidegate::session::{Event, Inbound, Inflater, SessionLimits};

use super::input::{Input, pieces};

/// Most bytes of a control frame of the gateway.
const CONTROL_FRAME_BYTES_MAX: usize = 127;

/// Runs the target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let switches = input.byte();
    let settings = Settings {
        may_compress: switches & 1 != 0,
        has_closed: switches & 2 != 0,
        limits: SessionLimits {
            max_message: input.one_of(&[0, 1, 125, 126, 700, 65_535, 65_536, 1 << 20]),
            own_frames_bytes_max: input.one_of(&[64 * 1024, 4096, 300, 127]),
            echoes: switches & 4 != 0,
            message_type: [MessageType::Any, MessageType::Text, MessageType::Binary, MessageType::Any]
                [usize::from(switches >> 3 & 3)],
        },
    };
    let cuts = input.cuts();
    let bytes = input.rest();
    let whole = hear(settings, &[bytes]);
    check(settings, bytes, &whole);
    let pieces = pieces(bytes, &cuts);
    if pieces.len() > 1 {
        assert_eq!(hear(settings, &pieces), whole, "cuts change what is heard");
    }
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    may_compress: bool,
    /// A close frame of the gateway is on its way.
    has_closed: bool,
    limits: SessionLimits,
}

/// What became of some input.
#[derive(PartialEq, Debug, Default)]
struct Heard {
    own: Vec<u8>,
    events: Vec<Event>,
    fault: Option<CloseReason>,
}

/// Feeds piece after piece until a fault; as the shard does, keeps the context only where it must.
fn hear(settings: Settings, pieces: &[&[u8]]) -> Heard {
    let (mut heard, mut inflater) = (Heard::default(), Inflater::default());
    let mut context: Option<Inbound> = None;
    for piece in pieces {
        let mut inbound =
            context.take().unwrap_or_else(|| Inbound::new(settings.limits, settings.may_compress));
        if settings.has_closed {
            inbound.on_close_sent();
        }
        let outcome = inbound.handle_bytes(piece, &mut inflater, &mut heard.own, &mut heard.events);
        if let Err(reason) = outcome {
            heard.fault = Some(reason);
            break;
        }
        assert!(!(inbound.is_at_rest() && inbound.is_mid_message()), "at rest in the middle");
        assert!(inbound.is_mid_message() || !inbound.is_in_data_message(), "a message, but not in one");
        context = Some(inbound).filter(|inbound| !inbound.is_at_rest());
    }
    heard
}

fn check(settings: Settings, bytes: &[u8], heard: &Heard) {
    let Settings { limits, has_closed, .. } = settings;
    let closes = heard.events.iter().filter(|event| matches!(event, Event::Closed { .. })).count();
    assert!(closes == 0 || closes == 1 && heard.fault.is_none(), "closed {closes} times, {:?}", heard.fault);
    for (index, event) in heard.events.iter().enumerate() {
        match event {
            Event::Message { kind, payload } => {
                assert!(payload.len() <= limits.max_message, "{} bytes", payload.len());
                assert!(*kind == PayloadKind::Binary || std::str::from_utf8(payload).is_ok());
            }
            Event::Ping => {}
            Event::Pong { payload } => assert!(payload.len() <= 125),
            Event::Closed { code } => {
                assert_eq!(index + 1, heard.events.len(), "something after the close");
                assert!(code.is_none_or(is_code_of_a_peer), "{code:?}");
            }
        }
    }
    if has_closed {
        assert!(heard.own.is_empty(), "spoke after the close");
    } else if !limits.echoes {
        let own_max = limits.own_frames_bytes_max.max(CONTROL_FRAME_BYTES_MAX);
        assert!(heard.own.len() <= own_max, "{} bytes of own frames", heard.own.len());
    }
    check_own_frames(&heard.own);
    // The smallest message is a header and a mask.
    assert!(heard.events.len() <= bytes.len() / 6, "{} events of {} bytes", heard.events.len(), bytes.len());
    assert_ne!(heard.fault, Some(CloseReason::Internal), "the codec and the tracker disagree");
}

/// RFC 6455 §7.4: what may stand in a close frame.
fn is_code_of_a_peer(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Whole, unmasked, final frames and nothing else.
fn check_own_frames(mut own: &[u8]) {
    while let [first, second, rest @ ..] = own {
        assert!(matches!(first, 0x81 | 0x82 | 0x88 | 0x8a), "{first:#x}");
        let (header, length) = match (second, rest) {
            (126, [high, low, ..]) => (2, usize::from(u16::from_be_bytes([*high, *low]))),
            (127, [a, b, c, d, e, f, g, h, ..]) => {
                (8, u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]) as usize)
            }
            (0..=125, _) => (0, usize::from(*second)),
            _ => panic!("a header of {own:x?}"),
        };
        own = rest.get(header + length..).expect("a whole frame");
    }
    assert!(own.is_empty(), "half a header");
}
