//! The demo page: shows a channel live and, where relay is on, sends to it. Built into the binary.
//!
//! The page is told its channel, whether it may send and how to publish by attributes of its body; the three values
//! are of alphabets without markup. Its policy allows nothing but its own scripts, style and feed. The client that it uses
//! is the one of clients/js, for every page of this host.

use std::borrow::Cow;

use super::response::{Document, Manner};
use crate::config::{ChannelRules, Config};
use crate::model::ChannelName;

const TEMPLATE: &str = include_str!("page/index.html");
const SCRIPT: &str = include_str!("page/page.js");
const CLIENT: &str = include_str!("../../clients/js/tidegate.js");
const STYLE: &str = include_str!("page/page.css");
const ICON: &str = include_str!("page/favicon.svg");

const PAGE_HEADERS: &[(&str, &str)] = &[(
    "Content-Security-Policy",
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
)];

/// A part of the page that is fetched by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asset {
    /// `/page.js`
    Script,
    /// `/tidegate.js`
    Client,
    /// `/page.css`
    Style,
    /// `/favicon.svg`
    Icon,
}

impl Asset {
    /// The asset that is served at exactly `path`.
    pub(super) fn at(path: &str) -> Option<Self> {
        match path {
            "/page.js" => Some(Self::Script),
            "/tidegate.js" => Some(Self::Client),
            "/page.css" => Some(Self::Style),
            "/favicon.svg" => Some(Self::Icon),
            _ => None,
        }
    }

    /// The complete response.
    pub(super) fn respond(self, manner: Manner) -> Vec<u8> {
        let (content_type, body) = match self {
            Self::Script => ("text/javascript; charset=utf-8", SCRIPT),
            Self::Client => ("text/javascript; charset=utf-8", CLIENT),
            Self::Style => ("text/css; charset=utf-8", STYLE),
            Self::Icon => ("image/svg+xml", ICON),
        };
        Document { content_type, headers: &[], body: Cow::Borrowed(body) }.respond(manner)
    }
}

/// The page of every channel, that of the default channel ready made.
#[derive(Debug)]
pub(super) struct Page {
    rules: ChannelRules,
    /// Host and port for the publish command that the page shows.
    publish_authority: String,
    max_message: usize,
    of_default_channel: Document,
}

impl Page {
    /// Prepares the page as `config` has it.
    pub(super) fn new(config: &Config) -> Self {
        let admin = config.admin_listen;
        // An address of the operator's network is not for the public to read.
        let host =
            if admin.ip().is_loopback() || admin.ip().is_unspecified() { "localhost" } else { "ADMIN-HOST" };
        let mut page = Self {
            rules: config.channels.clone(),
            publish_authority: format!("{host}:{}", admin.port()),
            max_message: config.max_message,
            of_default_channel: Document {
                content_type: "text/html; charset=utf-8",
                headers: PAGE_HEADERS,
                body: Cow::Borrowed(""),
            },
        };
        page.of_default_channel = page.render(&config.default_channel);
        page
    }

    /// The complete response for the default channel's page, or that of `channel`.
    pub(super) fn respond(&self, channel: Option<&ChannelName>, manner: Manner) -> Vec<u8> {
        match channel {
            None => self.of_default_channel.respond(manner),
            Some(channel) => self.render(channel).respond(manner),
        }
    }

    fn render(&self, channel: &ChannelName) -> Document {
        let relay = if self.rules.settings_for(channel).relay { "on" } else { "off" };
        let body = TEMPLATE
            .replace("{{channel}}", channel.as_str())
            .replace("{{relay}}", relay)
            .replace("{{publish}}", &self.publish_authority)
            .replace("{{max_message}}", &self.max_message.to_string());
        Document { content_type: "text/html; charset=utf-8", headers: PAGE_HEADERS, body: Cow::Owned(body) }
    }
}
