//! Who reads deflated messages, and the compressors at the home.

use super::Deflater;
use super::hub::{Channel, Hub};
use crate::config::ChannelSettings;
use crate::config::limits::COMPRESSORS_MAX;
use crate::model::{ChannelIndex, ChannelName};

impl Channel {
    /// Whether a subscriber anywhere in the process reads deflated messages, as far as the home has heard.
    pub(super) fn has_deflating(&self) -> bool {
        let remote = self.numbering.as_ref().map_or(0, |numbering| numbering.remote_deflating());
        self.deflating > 0 || remote > 0
    }
}

impl Hub {
    /// Compressors of channels that are homed here.
    pub fn deflaters(&self) -> usize {
        self.deflaters
    }

    /// Members that read deflated messages.
    pub fn deflating(&self, index: ChannelIndex) -> u32 {
        self.channels[index.index()].deflating
    }

    /// A member of `index` reads deflated messages from here on.
    pub fn begin_deflating(&mut self, index: ChannelIndex) {
        self.list_change(index);
        self.channels[index.index()].deflating += 1;
    }

    /// A member of `index` that did has left.
    pub fn end_deflating(&mut self, index: ChannelIndex) {
        self.list_change(index);
        let channel = &mut self.channels[index.index()];
        debug_assert!(channel.deflating > 0, "it began to");
        channel.deflating = channel.deflating.saturating_sub(1);
        self.drop_idle_deflater(index);
    }

    /// At the home: the channel's compressor, if some subscriber of the process reads deflated messages. Makes it, after
    /// `settings`, unless this shard has [`COMPRESSORS_MAX`] of them: then messages go out plain.
    pub fn deflater_mut(
        &mut self,
        index: ChannelIndex,
        settings: impl FnOnce(&ChannelName) -> ChannelSettings,
    ) -> Option<&mut Deflater> {
        let channel = &mut self.channels[index.index()];
        if channel.deflater.is_none() {
            if !channel.has_deflating() || self.deflaters >= COMPRESSORS_MAX {
                return None;
            }
            self.deflaters += 1;
            channel.deflater = Some(Box::new(Deflater::new(&settings(&channel.name))));
        }
        channel.deflater.as_deref_mut()
    }

    /// Whether [`Hub::deflater_mut`] would make a compressor.
    pub fn would_begin_deflater(&self, index: ChannelIndex) -> bool {
        self.channels.get(index.index()).is_some_and(|it| it.deflater.is_none() && it.has_deflating())
    }

    pub(super) fn drop_idle_deflater(&mut self, index: ChannelIndex) {
        let channel = &mut self.channels[index.index()];
        if channel.deflater.is_some() && !channel.has_deflating() {
            channel.deflater = None;
            self.deflaters -= 1;
        }
    }
}
