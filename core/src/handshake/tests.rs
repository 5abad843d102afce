use super::*;
use proptest::prelude::*;

const REALM: RealmId = RealmId([9; 16]);
const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn server() -> Identity {
    Identity::from_seed([1; 32])
}

fn client() -> Identity {
    Identity::from_seed([2; 32])
}

fn initiator(expected: PeerId, chance: u8) -> (Initiator, Vec<u8>) {
    Initiator::start(client(), expected, REALM, Some([5; 32]), "phone", [chance; 32]).unwrap()
}

fn responder(chance: u8) -> Responder {
    Responder::new(server(), REALM, [chance; 32]).unwrap()
}

fn connected() -> (Channel, Channel) {
    let (initiator, one) = initiator(server().peer_id(), 3);
    let (waiting, two) = responder(4).receive(&one, NOW).unwrap();
    let (welcome, three) = initiator.receive(&two).unwrap();
    assert_eq!(welcome.server_time(), NOW);
    let claim = waiting.receive(&three).unwrap();
    assert_eq!((claim.peer, claim.name.as_str()), (client().peer_id(), "phone"));
    assert_eq!(claim.invite, Some(secret_hash(&[5; 32])));
    let (theirs, four) = claim.accept().unwrap();
    (welcome.receive(&four).unwrap(), theirs)
}

#[test]
fn both_ends_know_each_other_and_talk() {
    let (mut a, mut b) = connected();
    assert_eq!((a.peer, b.peer), (server().peer_id(), client().peer_id()));
    for len in [0, 1, 65_518, 65_519, 200_000] {
        let message = vec![7; len];
        assert_eq!(b.opener.open(&a.sealer.seal(&message).unwrap()).unwrap(), message);
        assert_eq!(a.opener.open(&b.sealer.seal(&message).unwrap()).unwrap(), message);
    }
}

#[test]
fn a_client_does_not_name_itself_to_another_server() {
    let (initiator, one) = initiator(PeerId([8; 32]), 3);
    let (_, two) = responder(4).receive(&one, NOW).unwrap();
    let found = server().peer_id();
    let expected = PeerId([8; 32]);
    assert_eq!(initiator.receive(&two).unwrap_err(), HandshakeError::WrongServerKey { expected, found });
}

#[test]
fn a_relay_with_keys_of_its_own_can_show_neither_end_a_proof() {
    // It talks Noise with both, and hands on what the real ends sealed inside.
    let (victim, _) = initiator(server().peer_id(), 3);
    let (mut relay, one) = initiator(server().peer_id(), 30);
    let (_, real) = responder(4).receive(&one, NOW).unwrap();
    let (noise, sealed) = real.split_at(NOISE_2_LEN);
    relay.noise.read_message(noise, &mut [0; 64]).unwrap();
    let (_, mut opener, _) = transport(relay.noise).unwrap();
    let hello = opener.open(sealed).unwrap();
    let mut fake = builder([31; 32]).unwrap().build_responder().unwrap();
    let (_, to_fake) = initiator(server().peer_id(), 3);
    fake.read_message(&to_fake, &mut [0; 64]).unwrap();
    let mut two = vec![0; NOISE_2_LEN];
    fake.write_message(&[], &mut two).unwrap();
    let (mut sealer, _, _) = transport(fake).unwrap();
    two.extend_from_slice(&sealer.seal(&hello).unwrap());
    assert_eq!(victim.receive(&two).unwrap_err(), HandshakeError::BadSignature);
}

#[test]
fn recorded_messages_are_worth_nothing_in_another_connection() {
    let (initiator, one) = initiator(server().peer_id(), 3);
    let (_, two) = responder(4).receive(&one, NOW).unwrap();
    let (_, three) = initiator.receive(&two).unwrap();
    let (waiting, _) = responder(5).receive(&one, NOW).unwrap();
    assert!(waiting.receive(&three).is_err());
}

#[test]
fn a_refusal_says_why() {
    for reason in [RefuseReason::Unknown, RefuseReason::Revoked, RefuseReason::BadInvite, RefuseReason::Busy]
    {
        let (initiator, one) = initiator(server().peer_id(), 3);
        let (waiting, two) = responder(4).receive(&one, NOW).unwrap();
        let (welcome, three) = initiator.receive(&two).unwrap();
        let four = waiting.receive(&three).unwrap().refuse(reason).unwrap();
        assert_eq!(welcome.receive(&four).unwrap_err(), HandshakeError::Refused { reason });
    }
}

#[test]
fn frames_that_are_repeated_swapped_or_cut_do_not_open() {
    let (mut a, mut b) = connected();
    let (one, two) = (a.sealer.seal(&[1; 100_000]).unwrap(), a.sealer.seal(b"two").unwrap());
    assert_eq!(b.opener.open(&two), Err(ChannelError::Tampered));
    let (_, mut b2) = connected();
    assert_eq!(b2.opener.open(&one[..RECORD_LEN]), Err(ChannelError::Tampered));
    let (_, mut b3) = connected();
    b3.opener.open(&one).unwrap();
    assert_eq!(b3.opener.open(&one), Err(ChannelError::Tampered));
    assert_eq!(b3.opener.open(&[]), Err(ChannelError::Tampered));
}

const RECORD_LEN: usize = 65_535;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_changed_byte_of_any_frame_ends_the_handshake(frame in 0usize..4, at: u16, bit in 0u8..8) {
        let flip = |n: usize, mut bytes: Vec<u8>| {
            if n == frame {
                let len = bytes.len();
                bytes[usize::from(at) % len] ^= 1 << bit;
            }
            bytes
        };
        let run = || -> Result<(), HandshakeError> {
            let (initiator, one) = initiator(server().peer_id(), 3);
            let (waiting, two) = responder(4).receive(&flip(0, one), NOW)?;
            let (welcome, three) = initiator.receive(&flip(1, two))?;
            let (_, four) = waiting.receive(&flip(2, three))?.accept()?;
            welcome.receive(&flip(3, four)).map(|_| ())
        };
        prop_assert!(run().is_err());
    }
}
