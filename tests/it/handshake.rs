//! Attacks on the proof between two clients: whatever a stranger says, in whatever order, he is
//! taken for nobody. The controls show that the same stage takes honest clients, and that a proof
//! which covers less is broken by the same attacks.

use chinwag::client::state::handshake::{
    Acceptor, Dialler, EXPECTED_MAX, EXPECTED_OF_ONE_MAX, Expected, FILE_TICKET_MAX,
};
use chinwag::wire::name::UserName;
use chinwag::wire::peer::{Frame, FrameReader, Hello, Mac, Nonce};
use chinwag::wire::{Purpose, Ticket};
use hmac::{Hmac, KeyInit, Mac as _};
use sha2::Sha256;

use crate::dice::Dice;

/// How often every attack is tried, each time with other numbers.
const ROUNDS: u64 = 600;

fn name(word: &str) -> UserName {
    UserName::parse(word).expect("a name")
}

fn random<const N: usize>(dice: &mut Dice) -> [u8; N] {
    [(); N].map(|()| u8::try_from(dice.roll(256)).expect("a byte"))
}

fn ticket(dice: &mut Dice, number: u64) -> Ticket {
    Ticket { number, secret: u128::from_be_bytes(random(dice)) }
}

fn one_of<'a>(dice: &mut Dice, words: &[&'a str]) -> &'a str {
    words[dice.pick(words.len())]
}

/// luke, who is dialled and expects hans for either purpose, and yoda.
struct Luke {
    expected: Expected,
    private: Ticket,
    file: Ticket,
}

impl Luke {
    fn new(dice: &mut Dice) -> Self {
        let (private, file, of_yoda) = (ticket(dice, 7), ticket(dice, 8), ticket(dice, 9));
        let mut expected = Expected::default();
        expected.add(0, name("hans"), private, Purpose::Private);
        expected.add(0, name("hans"), file, Purpose::File);
        expected.add(0, name("yoda"), of_yoda, Purpose::Private);
        Self { expected, private, file }
    }

    /// hans, who has the tickets too.
    fn hans(&self, purpose: Purpose, dice: &mut Dice) -> Dialler {
        let ticket = if purpose == Purpose::Private { self.private } else { self.file };
        Dialler::new(purpose, name("hans"), name("luke"), ticket, random(dice))
    }

    /// A connection to him: `say` gets what he has said last. Returns whom he takes it for.
    fn meet(&mut self, nonce: Nonce, mut say: impl FnMut(Option<&Frame>) -> Vec<u8>) -> Option<(UserName, Purpose)> {
        let mut reader = FrameReader::default();
        reader.push(&say(None));
        let Some(Frame::Hello(hello)) = reader.next_frame().ok()? else { return None };
        let ticket = self.expected.find(1, &hello, &name("luke"))?;
        let acceptor = Acceptor::new(hello.clone(), ticket, nonce);
        reader.push(&say(Some(&acceptor.proof())));
        let answer = reader.next_frame().ok()??;
        let is_right = acceptor.check(&answer) && self.expected.use_up(&hello.from, &ticket);
        is_right.then_some((hello.from, hello.purpose))
    }

    /// An honest conversation with him, as somebody on the way sees it.
    fn overhear(&mut self, nonce: Nonce, hans: &Dialler) -> [Vec<u8>; 2] {
        let mut said = Vec::new();
        let met = self.meet(nonce, |heard| {
            said.push(honest(hans, heard));
            said[said.len() - 1].clone()
        });
        assert!(met.is_some(), "the control: an honest client is taken for who he is");
        said.try_into().expect("a hello and an answer")
    }

    fn is_fooled_by(&mut self, nonce: Nonce, said: &[Vec<u8>; 2]) -> bool {
        self.meet(nonce, |heard| said[usize::from(heard.is_some())].clone()).is_some()
    }
}

/// What who has the ticket says.
fn honest(dialler: &Dialler, heard: Option<&Frame>) -> Vec<u8> {
    match heard {
        None => dialler.hello().bytes(),
        Some(proof) => dialler.check(proof).expect("he has the ticket too").bytes(),
    }
}

fn hello_of(dialler: &Dialler) -> Hello {
    match dialler.hello() {
        Frame::Hello(hello) => hello,
        frame => panic!("{frame:?} is no hello"),
    }
}

/// luke is told something else than the honest hans says, who answers the proof all the same.
fn with_another_hello(dice: &mut Dice, change: impl FnOnce(&mut Hello, &mut Dice)) -> bool {
    let mut luke = Luke::new(dice);
    let hans = luke.hans(Purpose::Private, dice);
    let mut hello = hello_of(&hans);
    change(&mut hello, dice);
    let secret = luke.private;
    luke.meet(random(dice), |heard| match heard {
        None => Frame::Hello(hello.clone()).bytes(),
        Some(proof) => unsuspecting(&hans, &secret, proof),
    })
    .is_some()
}

/// What hans says if he heard what fits his own hello: the best that somebody between the two
/// could make of it.
fn unsuspecting(hans: &Dialler, ticket: &Ticket, heard: &Frame) -> Vec<u8> {
    let Frame::Proof { nonce, .. } = heard else { panic!("luke says {heard:?}") };
    honest(hans, Some(&Acceptor::new(hello_of(hans), *ticket, *nonce).proof()))
}

type Attack = (&'static str, fn(&mut Dice) -> bool);

/// What a stranger says to who is dialled. True: he is taken for somebody.
const ON_ACCEPTOR: [Attack; 14] = [
    ("a forged answer", |dice| {
        let mut luke = Luke::new(dice);
        let hello = luke.hans(Purpose::Private, dice).hello().bytes();
        let forged = [hello, Frame::Answer { mac: random(dice) }.bytes()];
        luke.is_fooled_by(random(dice), &forged)
    }),
    ("an answer with another secret", |dice| {
        let mut luke = Luke::new(dice);
        let other = ticket(dice, 7);
        let stranger = Dialler::new(Purpose::Private, name("hans"), name("luke"), other, random(dice));
        luke.meet(random(dice), |heard| {
            heard.map_or_else(|| stranger.hello().bytes(), |proof| unsuspecting(&stranger, &other, proof))
        })
        .is_some()
    }),
    ("the acceptor's own proof sent back", |dice| {
        let mut luke = Luke::new(dice);
        let hello = luke.hans(Purpose::Private, dice).hello().bytes();
        luke.meet(random(dice), |heard| match heard {
            Some(Frame::Proof { mac, .. }) => Frame::Answer { mac: *mac }.bytes(),
            _ => hello.clone(),
        })
        .is_some()
    }),
    ("the acceptor's proof of another connection", |dice| {
        let (mut luke, nonce) = (Luke::new(dice), random(dice));
        let hello = luke.hans(Purpose::Private, dice).hello().bytes();
        let mut stolen = Mac::default();
        luke.meet(nonce, |heard| {
            if let Some(Frame::Proof { mac, .. }) = heard {
                stolen = *mac;
            }
            hello.clone()
        });
        luke.is_fooled_by(nonce, &[hello, Frame::Answer { mac: stolen }.bytes()])
    }),
    ("a whole conversation again", |dice| {
        let mut luke = Luke::new(dice);
        let hans = luke.hans(Purpose::Private, dice);
        let said = luke.overhear(random(dice), &hans);
        luke.is_fooled_by(random(dice), &said)
    }),
    ("a whole conversation again, with the same random bytes", |dice| {
        let (mut luke, nonce) = (Luke::new(dice), random(dice));
        let hans = luke.hans(Purpose::Private, dice);
        let said = luke.overhear(nonce, &hans);
        luke.is_fooled_by(nonce, &said)
    }),
    ("an answer that did not arrive, on another connection", |dice| {
        let mut luke = Luke::new(dice);
        let hans = luke.hans(Purpose::Private, dice);
        let proof = Acceptor::new(hello_of(&hans), luke.private, random(dice)).proof();
        let said = [hans.hello().bytes(), honest(&hans, Some(&proof))];
        luke.is_fooled_by(random(dice), &said)
    }),
    ("another name", |dice| {
        with_another_hello(dice, |hello, dice| hello.from = name(one_of(dice, &["yoda", "Hans", "han", "luke"])))
    }),
    ("the names swapped", |dice| with_another_hello(dice, |hello, _| std::mem::swap(&mut hello.from, &mut hello.to))),
    ("dialled for somebody else", |dice| {
        with_another_hello(dice, |hello, dice| hello.to = name(one_of(dice, &["yoda", "hans", "lukE", "luke2"])))
    }),
    ("another purpose, by itself or with its number", |dice| {
        with_another_hello(dice, |hello, dice| {
            hello.purpose = Purpose::File;
            hello.ticket += dice.roll(2);
        })
    }),
    ("another number or other random bytes", |dice| {
        with_another_hello(dice, |hello, dice| match dice.roll(6) {
            0 => hello.nonce = random(dice),
            1 => hello.ticket = u64::MAX,
            other => hello.ticket = 6 + other,
        })
    }),
    ("a frame damaged, cut off or too long", |dice| {
        let mut luke = Luke::new(dice);
        let hans = luke.hans(Purpose::Private, dice);
        let (is_answer, place, kind) = (dice.roll(2) == 1, dice.pick(1 << 16), dice.roll(4));
        let (bit, more) = (dice.roll(8), dice.pick(600));
        let secret = luke.private;
        luke.meet(random(dice), |heard| {
            let mut said = heard.map_or_else(|| hans.hello().bytes(), |proof| unsuspecting(&hans, &secret, proof));
            if heard.is_some() == is_answer {
                let at = place % said.len();
                match kind {
                    0 | 1 => said[at] ^= 1 << bit,
                    2 => said.truncate(at),
                    _ => drop(said.splice(at..at, vec![0xff; 1 + more])),
                }
            }
            said
        })
        .is_some()
    }),
    ("frames in a wrong order", |dice| {
        let mut luke = Luke::new(dice);
        let hans = luke.hans(Purpose::Private, dice);
        let kind = dice.roll(5);
        let mac = random(dice);
        luke.meet(random(dice), |heard| match (heard, kind) {
            (None, 0) => Frame::Answer { mac }.bytes(),
            (None, 1) => Frame::Text("hi".to_owned()).bytes(),
            (None, 2) => [Frame::Bye.bytes(), hans.hello().bytes()].concat(),
            (Some(_), 3) => hans.hello().bytes(),
            (Some(proof), 4) => [Frame::Text("hi".to_owned()).bytes(), honest(&hans, Some(proof))].concat(),
            _ => honest(&hans, heard),
        })
        .is_some()
    }),
];

/// What a stranger says to hans, who has dialled luke and reached him instead.
const ON_DIALLER: [Attack; 4] = [
    ("a forged proof", |dice| {
        let hans = Luke::new(dice).hans(Purpose::Private, dice);
        hans.check(&Frame::Proof { nonce: random(dice), mac: random(dice) }).is_some()
    }),
    ("a proof with another secret", |dice| {
        let hans = Luke::new(dice).hans(Purpose::Private, dice);
        hans.check(&Acceptor::new(hello_of(&hans), ticket(dice, 7), random(dice)).proof()).is_some()
    }),
    ("luke's proof for another hello of hans", |dice| {
        let luke = Luke::new(dice);
        let (hans, before) = (luke.hans(Purpose::Private, dice), luke.hans(Purpose::Private, dice));
        hans.check(&Acceptor::new(hello_of(&before), luke.private, random(dice)).proof()).is_some()
    }),
    ("his own answer sent back, or no proof at all", |dice| {
        let luke = Luke::new(dice);
        let (hans, nonce) = (luke.hans(Purpose::Private, dice), random(dice));
        let proof = Acceptor::new(hello_of(&hans), luke.private, nonce).proof();
        let Some(Frame::Answer { mac }) = hans.check(&proof) else { panic!("the control: luke has the ticket") };
        let frames = [Frame::Proof { nonce, mac }, Frame::Answer { mac }, hans.hello(), Frame::Bye];
        frames.iter().any(|frame| hans.check(frame).is_some())
    }),
];

#[test]
fn no_stranger_is_taken_for_anybody() {
    let mut variants = 0;
    for (what, attack) in ON_ACCEPTOR.into_iter().chain(ON_DIALLER) {
        for seed in 0..ROUNDS {
            assert!(!attack(&mut Dice(seed << 32)), "{what}, seed {seed}");
            variants += 1;
        }
    }
    assert!(variants >= 10_000, "{variants}");
}

/// The control: on the same stage, whoever has the ticket gets in, for what it was given.
#[test]
fn who_has_the_ticket_is_believed_once() {
    for seed in 0..ROUNDS {
        let dice = &mut Dice(seed << 32);
        let mut luke = Luke::new(dice);
        for purpose in [Purpose::File, Purpose::Private] {
            let hans = luke.hans(purpose, dice);
            let met = luke.meet(random(dice), |heard| honest(&hans, heard));
            assert_eq!(met, Some((name("hans"), purpose)));
            assert_eq!(luke.meet(random(dice), |_| hans.hello().bytes()), None, "the ticket is used up");
        }
    }
}

/// A proof of our own making, which may leave out the roles or the names.
fn weak(ticket: &Ticket, role: &str, hello: &Hello, nonce: &Nonce, has_roles: bool, has_names: bool) -> Mac {
    let mut hmac = Hmac::<Sha256>::new_from_slice(&ticket.secret.to_be_bytes()).expect("a key");
    let mut add = |part: &[u8]| {
        hmac.update(&[u8::try_from(part.len()).expect("short")]);
        hmac.update(part);
    };
    if has_roles {
        add(role.as_bytes());
    }
    for (at, field) in hello.fields().iter().enumerate() {
        if has_names || !(2..4).contains(&at) {
            add(field);
        }
    }
    add(nonce);
    hmac.finalize().into_bytes().into()
}

/// The control: it is the roles, the names and the one use that keep strangers out.
#[test]
fn a_proof_that_covers_less_is_broken() {
    let dice = &mut Dice(1);
    let luke = Luke::new(dice);
    let (hans, nonce) = (luke.hans(Purpose::Private, dice), random(dice));
    let (hello, ticket) = (hello_of(&hans), luke.private);
    let proof = |role, hello: &Hello, has_roles, has_names| weak(&ticket, role, hello, &nonce, has_roles, has_names);

    // What is made here is what the program makes, if nothing is left out.
    let whole = proof("chinwag acceptor", &hello, true, true);
    assert_eq!(Acceptor::new(hello.clone(), ticket, nonce).proof(), Frame::Proof { nonce, mac: whole });

    // Without roles, the acceptor's proof is the dialler's.
    assert_eq!(proof("chinwag acceptor", &hello, false, true), proof("chinwag dialler", &hello, false, true));
    assert_ne!(proof("chinwag acceptor", &hello, true, true), proof("chinwag dialler", &hello, true, true));

    // Without names, hans can be made to answer for anybody.
    let other = Hello { from: name("yoda"), ..hello.clone() };
    assert_eq!(proof("chinwag dialler", &hello, true, false), proof("chinwag dialler", &other, true, false));
    assert_ne!(proof("chinwag dialler", &hello, true, true), proof("chinwag dialler", &other, true, true));

    // A ticket that is good again takes a replay with the same random bytes.
    let mut luke = luke;
    let said = luke.overhear(nonce, &hans);
    luke.expected.add(1, name("hans"), ticket, Purpose::Private);
    assert!(luke.is_fooled_by(nonce, &said));
}

#[test]
fn tickets_are_bounded_and_those_for_files_grow_old() {
    let dice = &mut Dice(1);
    let mut expected = Expected::default();
    let hello = |from: &str, number, purpose| Hello {
        purpose,
        from: name(from),
        to: name("luke"),
        ticket: number,
        nonce: [0; 16],
    };
    let is_known = |expected: &mut Expected, now, from: &str, number, purpose| {
        expected.find(now, &hello(from, number, purpose), &name("luke")).is_some()
    };

    // One user pushes out his own tickets only.
    expected.add(0, name("yoda"), ticket(dice, 1), Purpose::Private);
    for number in 2..=1 + 2 * EXPECTED_OF_ONE_MAX as u64 {
        expected.add(0, name("vader"), ticket(dice, number), Purpose::Private);
    }
    assert_eq!(expected.len(), 1 + EXPECTED_OF_ONE_MAX);
    assert!(is_known(&mut expected, 0, "yoda", 1, Purpose::Private));
    assert!(!is_known(&mut expected, 0, "vader", 2, Purpose::Private));

    // Many users push out those of who has most.
    for number in 0..EXPECTED_MAX as u64 - 10 {
        expected.add(0, name(&format!("user{number}")), ticket(dice, number), Purpose::Private);
    }
    assert_eq!(expected.len(), EXPECTED_MAX);
    assert!(is_known(&mut expected, 0, "yoda", 1, Purpose::Private));

    let mut expected = Expected::default();
    expected.add(0, name("hans"), ticket(dice, 1), Purpose::File);
    expected.add(0, name("hans"), ticket(dice, 2), Purpose::Private);
    assert!(is_known(&mut expected, FILE_TICKET_MAX - 1, "hans", 1, Purpose::File));
    assert!(!is_known(&mut expected, FILE_TICKET_MAX, "hans", 1, Purpose::File));
    assert!(is_known(&mut expected, i64::MAX, "hans", 2, Purpose::Private));
}
