//! What breaks, and when: data that follows from the seed.

use rand::Rng;
use rand::rngs::StdRng;

/// Something that breaks, or is whole again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The power of a member goes; what its disk had not synced is lost, the tail first.
    PowerCut(usize),
    /// It comes back, with what its disk has.
    Start(usize),
    /// One direction of a link carries nothing.
    Cut(usize, usize),
    /// It carries again.
    Mend(usize, usize),
    /// All connections between two members break.
    Reset(usize, usize),
    /// A member's process stands still.
    Pause(usize),
    /// It goes on, and does not know that it stood still.
    Resume(usize),
    /// Each sync of a member's disk takes at least this many milliseconds.
    Stall(usize, u64),
    /// A member's clock runs at this many thousandths of the right speed.
    Drift(usize, u64),
    /// A member's disk answers each write with an error.
    Break(usize),
    /// A member joins the cluster.
    Add(usize),
    /// A member leaves it for good.
    Remove(usize),
    /// While the member is off, a bit on its disk turns; the number says which.
    Flip(usize, u64),
}

/// Faults in the order of their time, in milliseconds.
pub type Schedule = Vec<(u64, Fault)>;

/// Draws what breaks between two moments, among some members; clocks only if they may. Everything that breaks is mended later
/// or, at the latest, when the world heals everything.
pub fn draw(random: &mut StdRng, members: usize, (from_ms, to_ms): (u64, u64), clocks: bool) -> Schedule {
    let mut schedule = Schedule::new();
    let mut now = from_ms;
    loop {
        now += random.random_range(30..900);
        if now >= to_ms {
            break;
        }
        let until = now + random.random_range(20..1500);
        let one = random.random_range(0..members);
        let other = (one + random.random_range(1..members)) % members;
        match random.random_range(0..14) {
            0..=2 => schedule.extend([(now, Fault::PowerCut(one)), (until, Fault::Start(one))]),
            3 => {
                // Everybody, one shortly after the other.
                for member in 0..members {
                    let later = random.random_range(0..20);
                    schedule.extend([(now + later, Fault::PowerCut(member)), (until + later, Fault::Start(member))]);
                }
            }
            4..=5 => {
                for peer in (0..members).filter(|peer| *peer != one) {
                    schedule.extend([(now, Fault::Cut(one, peer)), (now, Fault::Cut(peer, one))]);
                    schedule.extend([(until, Fault::Mend(one, peer)), (until, Fault::Mend(peer, one))]);
                }
            }
            6..=7 => schedule.extend([(now, Fault::Cut(one, other)), (until, Fault::Mend(one, other))]),
            8 => schedule.push((now, Fault::Reset(one, other))),
            9..=10 => schedule.extend([(now, Fault::Pause(one)), (until, Fault::Resume(one))]),
            11 => {
                let stall = random.random_range(20..800);
                schedule.extend([(now, Fault::Stall(one, stall)), (until, Fault::Stall(one, 0))]);
            }
            12 if clocks => {
                let speed = random.random_range(300..3000);
                schedule.extend([(now, Fault::Drift(one, speed)), (until, Fault::Drift(one, 1000))]);
            }
            _ => schedule.extend([(now, Fault::Break(one)), (until, Fault::PowerCut(one)), (until + 100, Fault::Start(one))]),
        }
    }
    schedule.sort_by_key(|(at, _)| *at);
    schedule
}

/// Draws the one bit that turns in a world: of one member, so that the others still have everything.
pub fn draw_flip(random: &mut StdRng, members: usize, (from_ms, to_ms): (u64, u64), schedule: &mut Schedule) {
    let one = random.random_range(0..members);
    let at = random.random_range(from_ms..to_ms);
    let bit = random.random::<u32>().into();
    schedule.extend([(at, Fault::PowerCut(one)), (at, Fault::Flip(one, bit)), (at + 50, Fault::Start(one))]);
    schedule.sort_by_key(|(at, _)| *at);
}

/// Draws a member that joins, loses its power once, and one of the first that leaves later.
pub fn draw_membership(random: &mut StdRng, members: usize, (from_ms, to_ms): (u64, u64), schedule: &mut Schedule) {
    let joins = random.random_range(from_ms..to_ms);
    let leaves = random.random_range(joins..to_ms);
    let cut = random.random_range(joins..to_ms);
    schedule.extend([(joins, Fault::Add(members)), (cut, Fault::PowerCut(members)), (cut + 200, Fault::Start(members))]);
    if random.random_bool(0.7) {
        schedule.push((leaves, Fault::Remove(random.random_range(0..members))));
    }
    schedule.sort_by_key(|(at, _)| *at);
}
