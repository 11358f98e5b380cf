//! The negotiation with a back end, up to the point where its queues can be set up.

use crate::channel::{Channel, Reply};
use crate::error::Failure;
use crate::message::{Request, parse};
use crate::profile::Profile;
use denali_abi::virtio::FEATURE_VERSION_1;
use vhost::vhost_user::message::{
    FrontendReq, VhostUserConfig, VhostUserConfigFlags, VhostUserMsgValidator,
    VhostUserProtocolFeatures as Protocol, VhostUserU64, VhostUserVirtioFeatures,
};

/// The protocol's features that the front end can use.
const USABLE: Protocol =
    Protocol::MQ.union(Protocol::REPLY_ACK).union(Protocol::CONFIG).union(Protocol::INFLIGHT_SHMFD);

/// The bit among virtio features by which a back end offers features of the protocol.
pub(crate) const PROTOCOL_FEATURES: u64 = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();

/// What a back end has offered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Virtio features.
    pub features: u64,
    /// It says whether it obeyed.
    pub acknowledges: bool,
    /// It keeps a record of requests in flight that survives it.
    pub records_inflight: bool,
    /// The device's configuration space, where the back end has it.
    pub config: Vec<u8>,
}

impl Offer {
    /// Whether a guest that knows `first` and has agreed to `features` can go on with this back end.
    pub(crate) fn replaces(&self, first: &Self, features: Option<u64>) -> Result<(), Failure> {
        let known = features.unwrap_or(first.features) & first.features;
        if known & !self.features != 0 {
            return Err(Failure::Differs("features"));
        }
        if self.config != first.config {
            return Err(Failure::Differs("configuration (such as the disk's size)"));
        }
        Ok(())
    }
}

/// A negotiation under way: one request after the other, each sent when the reply before it is here.
#[derive(Debug)]
pub(crate) struct Handshake {
    profile: Profile,
    offer: Offer,
    protocol: Protocol,
}

impl Handshake {
    /// Begins the negotiation.
    ///
    /// # Errors
    /// When the back end is gone.
    pub(crate) fn begin(profile: Profile, channel: &mut Channel) -> Result<Self, Failure> {
        channel.ask(&Request::new(FrontendReq::GET_FEATURES, &[]), &[])?;
        Ok(Self { profile, offer: Offer::default(), protocol: Protocol::empty() })
    }

    /// Goes on as far as replies are here; the offer when all is said.
    ///
    /// # Errors
    /// When the back end is gone, cannot do what is needed, or does not keep to the protocol.
    pub(crate) fn advance(&mut self, channel: &mut Channel) -> Result<Option<Offer>, Failure> {
        while let Some(reply) = channel.receive()? {
            if self.take(&reply, channel)? {
                return Ok(Some(std::mem::take(&mut self.offer)));
            }
        }
        Ok(None)
    }

    /// What the next reply answers, for messages.
    pub(crate) fn waits_for(&self) -> &'static str {
        match (self.offer.features, self.protocol.is_empty()) {
            (0, _) => "GET_FEATURES",
            (_, true) => "GET_PROTOCOL_FEATURES",
            _ => "GET_QUEUE_NUM or GET_CONFIG",
        }
    }

    /// Takes one reply and asks the next question; true when there is none.
    fn take(&mut self, reply: &Reply, channel: &mut Channel) -> Result<bool, Failure> {
        match reply.code {
            FrontendReq::GET_FEATURES => self.take_features(number(reply)?, channel),
            FrontendReq::GET_PROTOCOL_FEATURES => self.take_protocol(number(reply)?, channel),
            FrontendReq::GET_QUEUE_NUM => self.take_queues(number(reply)?, channel),
            FrontendReq::GET_CONFIG => self.take_config(&reply.body).map(|()| true),
            _ => Err(Failure::Protocol("a reply that nobody waits for")),
        }
    }

    fn take_features(&mut self, features: u64, channel: &mut Channel) -> Result<bool, Failure> {
        if features & FEATURE_VERSION_1 == 0 {
            return Err(Failure::Lacks("virtio 1 (VIRTIO_F_VERSION_1)"));
        }
        if features & PROTOCOL_FEATURES == 0 {
            return Err(Failure::Lacks("VHOST_USER_F_PROTOCOL_FEATURES"));
        }
        self.offer.features = features;
        channel.ask(&Request::new(FrontendReq::GET_PROTOCOL_FEATURES, &[]), &[])?;
        Ok(false)
    }

    fn take_protocol(&mut self, offered: u64, channel: &mut Channel) -> Result<bool, Failure> {
        self.protocol = Protocol::from_bits_truncate(offered) & USABLE;
        if self.profile.config_length() > 0 && !self.protocol.contains(Protocol::CONFIG) {
            return Err(Failure::Lacks("VHOST_USER_PROTOCOL_F_CONFIG"));
        }
        self.offer.acknowledges = self.protocol.contains(Protocol::REPLY_ACK);
        self.offer.records_inflight = self.protocol.contains(Protocol::INFLIGHT_SHMFD);
        let agreed = VhostUserU64::new(self.protocol.bits());
        channel.send(&Request::with(FrontendReq::SET_PROTOCOL_FEATURES, &agreed), &[])?;
        channel.send(&Request::new(FrontendReq::SET_OWNER, &[]), &[])?;
        if self.protocol.contains(Protocol::MQ) {
            channel.ask(&Request::new(FrontendReq::GET_QUEUE_NUM, &[]), &[])?;
            return Ok(false);
        }
        self.ask_config(channel)
    }

    fn take_queues(&mut self, queues: u64, channel: &mut Channel) -> Result<bool, Failure> {
        if queues < self.profile.queue_sizes().len() as u64 {
            return Err(Failure::Lacks("the number of queues that the device has"));
        }
        self.ask_config(channel)
    }

    fn ask_config(&self, channel: &mut Channel) -> Result<bool, Failure> {
        let length = self.profile.config_length();
        if length == 0 {
            return Ok(true);
        }
        let wanted = VhostUserConfig::new(0, length as u32, VhostUserConfigFlags::empty());
        let space = vec![0; length];
        let body = [vm_memory::ByteValued::as_slice(&wanted), &space];
        channel.ask(&Request::new(FrontendReq::GET_CONFIG, &body), &[])?;
        Ok(false)
    }

    fn take_config(&mut self, body: &[u8]) -> Result<(), Failure> {
        let length = self.profile.config_length();
        let (head, space) = body.split_at_checked(size_of::<VhostUserConfig>()).unzip();
        let head = head.and_then(parse::<VhostUserConfig>).unwrap_or_default();
        if { head.size } == 0 {
            return Err(Failure::Refused("GET_CONFIG"));
        }
        let space = space.filter(|space| space.len() == length && head.size as usize == length);
        match space {
            Some(space) if head.is_valid() && { head.offset } == 0 => {
                self.offer.config = space.to_vec();
                self.offer.features = self.profile.sensible(self.offer.features, space);
                Ok(())
            }
            _ => Err(Failure::Protocol("a configuration space of another size")),
        }
    }
}

/// The number that is a reply's body.
pub(crate) fn number(reply: &Reply) -> Result<u64, Failure> {
    let value = parse::<VhostUserU64>(&reply.body);
    value.map(|value| value.value).ok_or(Failure::Protocol("a number of another size"))
}
