//! Who owns the VIPs: VRRP (RFC 9568).
//!
//! The protocol is not there yet. What is: `announce`, the gratuitous ARP and the neighbour advertisement
//! by which the owner of a VIP tells the link where it is, used by a node that owns its VIPs without
//! an election.

pub mod announce;
