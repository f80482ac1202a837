// SPDX-License-Identifier: Apache-2.0
//
// The hand-over of a process image: from a source by way of a capsule to a destination, with the requests of rpc/dsm.proto.
//
//   here                     there
//   park                     ImagePark: the image's segments with the epochs under which the source holds them, and the hash of
//                            the capsule's token. It raises the epoch, ends the source's holdings, and answers when nothing of
//                            them is in flight any more. The same again gets the same answer
//   abort                    ImageAbort: by the source, which need not know whether its park arrived. It raises the epoch of an
//                            image that is not parked, so that a park that is still on its way comes too late
//   commit                   ImageCommit: by the destination, with the token out of the capsule. The same again gets the same answer
//   expiry                   the server's sweep: what a capsule that is too old had goes back to the source's principal
//   successor                Open by a new process of that principal: when nobody has the image, or its owner's lease lapsed (of a
//                            dead owner, or of one that was too slow); never of what is in a capsule
//   image                    the image's own file in the store. One write of it decides; then the segments' records follow
//   record[s]                the records. Between any two writes the server may die; its next start brings up to the image's file
//                            each record that is behind it (moves)
//   held, held_epoch         the catalog's holdings, in memory
//   MAY(p, e)                would the server accept a page operation of p that carries epoch e? Either p has a holding of this
//                            epoch, or its library opens again by id with it, as after a restart. Since writes may come late or
//                            twice, every epoch that p ever knew is tried in every state, also after its death
//
// Two segments stand for all of an image: between their records the server may die. A capsule once made is found by the
// destination now, later or never, also an earlier one. Requests are late, doubled or lost; lost, doubled and dead are bounded, so
// that something must happen in the end; what was not answered is sent again.
//
// Always: only the one to whom the server last gave the image may write; both segments go together; a commit happens once for
// a capsule, and never after the source was told that it has the image back (assertions). In the end: somebody who lives owns the
// image and knows it (ltl owned). With any of these the checker finds a fault, which handover.sh expects:
//   NO_FENCE    epochs are not compared and holdings not ended
//   NO_REDO     a start does not bring the records up to the image's file
//   NO_EXPIRY   a capsule lives for ever
//   NO_TOKEN    a commit is taken from an earlier capsule, too
//   NO_RISE     an abort of an image that is not parked leaves its epoch as it is

#ifndef DEATHS
#define DEATHS 1 // of the server; source and destination may each die once besides
#endif
#ifndef FAULTS
#define FAULTS 1 // messages lost or doubled
#endif
#ifndef ROUNDS
#define ROUNDS 2 // times that the source parks
#endif

#define NOBODY 0
#define SOURCE 1
#define DESTINATION 2
#define SUCCESSOR 3
#define CAPSULE 4

#ifdef NO_FENCE
#define FRESH(e, now) (true)
#else
#define FRESH(e, now) ((e) == (now))
#endif

mtype = { whole, parked, committed, returned, expired };
mtype = { owns, parking, away, returning, idle, committing, gone };

typedef image_file {
    mtype state = whole;
    byte epoch = 1;
    byte owner = SOURCE;
    byte token;
    byte moves
}
typedef segment_record {
    byte epoch = 1;
    byte owner = SOURCE;
    byte moves
}
image_file image;
segment_record record[2];

bool held[4]; // by party
byte held_epoch[4];
byte deaths, faults;

mtype does[4];  // what a party believes
byte knows[4];  // the epoch that it was told last
byte ever[4];   // bits: every epoch that it was ever told
bool dead[4];
bool mortal[4]; // may die; chosen at the start
bool hasty;     // a lease may lapse though its owner lives; chosen at the start
byte rounds;
byte capsules;  // bits: the tokens of those that left the source

byte m_park, m_abort, m_commit;  // requests on their way, with their epoch or token; 0: none
byte a_park, a_abort, a_commit;  // answers: the epoch; 0: none
bool r_park, r_abort, r_commit;  // or refused

byte last = SOURCE;     // to whom the server last gave the image, as far as anybody was told
byte committed_tokens;  // bits
byte returned_tokens;   // bits: the source was told that it has the image again

#define BIT(e) (1 << (e))
#define HAS(set, e) (((set) & BIT(e)) != 0)
#define MAY(p, e, s) (held[p] && FRESH(e, held_epoch[p]) || \
                      !held[p] && record[s].owner == p && FRESH(e, record[s].epoch))

inline give(whom, under)
{
    held[whom] = true;
    held_epoch[whom] = under;
    last = whom
}

inline told(whom, under) // a party learns that it owns the image
{
    does[whom] = owns;
    knows[whom] = under;
    ever[whom] = ever[whom] | BIT(under)
}

inline decide(now_is, under, whose, redeem)
{
    image.state = now_is;
    image.epoch = under;
    image.owner = whose;
    image.token = redeem;
    image.moves++
}

inline follow(which)
{
    record[which].epoch = image.epoch;
    record[which].owner = image.owner;
    record[which].moves = image.moves
}

inline end_holdings()
{
#ifndef NO_FENCE
    held[SOURCE] = false;
    held[DESTINATION] = false;
    held[SUCCESSOR] = false;
#endif
    skip
}

// Answers to requests that nobody waits for any more are dropped where they arrive: they are known by their number.
#define ASKS(what, e) (!dead[SOURCE] && does[SOURCE] == what && knows[SOURCE] == e)
#define ANSWER_PARK(e) if :: ASKS(parking, e) -> a_park = e + 1 :: else fi
#define ANSWER_ABORT(e) if :: ASKS(returning, e) -> a_abort = image.epoch :: else fi
#define ANSWER_COMMIT if :: !dead[DESTINATION] && does[DESTINATION] == committing -> a_commit = image.epoch :: else fi

// A request is taken from the network; it may stay there, to come again.
#define TAKE(m) e = m; if :: m = 0 :: faults < FAULTS -> faults++ fi
// Between any two writes the server may die instead of going on.
#define STEP(what) if :: d_step { what } :: deaths < DEATHS -> deaths++; goto died fi

proctype server()
{
    byte e;
end_server:
    do
    :: atomic { m_park != 0 -> TAKE(m_park);
            if
            :: image.state == parked && image.epoch == e + 1 -> ANSWER_PARK(e); e = 0; goto end_server
            :: image.state != parked && record[0].owner == SOURCE && FRESH(e, record[0].epoch) ->
                assert(!HAS(returned_tokens, e + 1));
                decide(parked, record[0].epoch + 1, CAPSULE, record[0].epoch + 1)
            :: else ->
                if :: ASKS(parking, e) -> r_park = true :: else fi;
                e = 0;
                goto end_server
            fi }
        STEP(end_holdings());
        STEP(follow(0));
        STEP(follow(1));
        STEP(last = CAPSULE; ANSWER_PARK(e); e = 0)
    :: atomic { m_abort != 0 -> TAKE(m_abort);
            if
            :: image.state == returned && image.epoch == e + 1 && record[0].owner == SOURCE && record[0].epoch == e + 1 ->
                give(SOURCE, e + 1);
                ANSWER_ABORT(e);
                e = 0;
                goto end_server
            :: (image.state == parked || image.state == expired) && image.epoch == e + 1 && record[0].epoch == e + 1 &&
                    record[0].owner != SUCCESSOR ->
                decide(returned, e + 1, SOURCE, 0)
            :: image.state != parked && record[0].epoch == e && record[0].owner == SOURCE ->
#ifdef NO_RISE
                decide(returned, e, SOURCE, 0)
#else
                decide(returned, e + 1, SOURCE, 0)
#endif
            :: else ->
                if :: ASKS(returning, e) -> r_abort = true :: else fi;
                e = 0;
                goto end_server
            fi }
        STEP(end_holdings(); follow(0));
        STEP(follow(1));
        STEP(give(SOURCE, image.epoch); ANSWER_ABORT(e); e = 0)
    :: atomic { m_commit != 0 -> TAKE(m_commit);
            if
            :: image.state == committed && image.token == e && record[0].owner == DESTINATION && record[0].epoch == e ->
                give(DESTINATION, e);
                ANSWER_COMMIT;
                e = 0;
                goto end_server
#ifdef NO_TOKEN
            :: image.state == parked ->
#else
            :: image.state == parked && image.token == e ->
#endif
                assert(!HAS(committed_tokens, e));
                assert(!HAS(returned_tokens, e));
                committed_tokens = committed_tokens | BIT(e);
                decide(committed, image.epoch, DESTINATION, image.token);
                e = 0
            :: else ->
                if :: !dead[DESTINATION] && does[DESTINATION] == committing -> r_commit = true :: else fi;
                e = 0;
                goto end_server
            fi }
        STEP(follow(0));
        STEP(follow(1));
        STEP(give(DESTINATION, image.epoch); ANSWER_COMMIT)
#ifndef NO_EXPIRY
    :: atomic { image.state == parked -> decide(expired, image.epoch, NOBODY, 0) }
        STEP(follow(0));
        STEP(follow(1); last = NOBODY)
#endif
    // A new process of the source's principal. Once: what comes after it is not of this hand-over.
    :: atomic { record[0].owner == NOBODY || record[0].owner == SOURCE && (dead[SOURCE] || hasty) ||
            record[0].owner == DESTINATION && (dead[DESTINATION] || hasty) ->
            end_holdings();
            record[0].epoch++;
            record[0].owner = SUCCESSOR;
            record[1].epoch++;
            record[1].owner = SUCCESSOR;
            give(SUCCESSOR, record[0].epoch);
            told(SUCCESSOR, record[0].epoch) }
    :: deaths < DEATHS -> deaths++;
died:   e = 0;
        d_step {
            held[SOURCE] = false; held[DESTINATION] = false; held[SUCCESSOR] = false;
#ifndef NO_REDO
            if :: record[0].moves < image.moves -> follow(0) :: else fi;
            if :: record[1].moves < image.moves -> follow(1) :: else fi;
#endif
            last = record[0].owner
        }
    od
}

proctype source()
{
    do
    :: atomic { !dead[SOURCE] && rounds < ROUNDS -> rounds++; does[SOURCE] = parking }
        do // until the park is answered, or it has waited long enough
        :: atomic { !dead[SOURCE] && m_park == 0 && a_park == 0 && !r_park -> m_park = knows[SOURCE] }
        :: atomic { !dead[SOURCE] && r_park -> r_park = false; does[SOURCE] = gone } goto end_source
        :: atomic { !dead[SOURCE] && a_park != 0 -> capsules = capsules | BIT(a_park); a_park = 0; does[SOURCE] = away } break
        :: !dead[SOURCE] && a_park == 0 && !r_park -> break
        :: dead[SOURCE] -> goto end_source
        od;
        if
        :: atomic { !dead[SOURCE] -> does[SOURCE] = returning }
        :: !dead[SOURCE] && does[SOURCE] == away -> goto end_source // the capsule is all that there is
        :: dead[SOURCE] -> goto end_source
        fi;
        do // until the abort is answered
        :: atomic { !dead[SOURCE] && m_abort == 0 && a_abort == 0 && !r_abort -> m_abort = knows[SOURCE] }
        :: atomic { !dead[SOURCE] && r_abort -> r_abort = false; does[SOURCE] = gone } goto end_source
        :: atomic { !dead[SOURCE] && a_abort != 0 -> returned_tokens = returned_tokens | BIT(knows[SOURCE] + 1);
                told(SOURCE, a_abort); a_abort = 0 } break
        :: dead[SOURCE] -> goto end_source
        od
    :: dead[SOURCE] || rounds == ROUNDS -> break
    od;
end_source:
    skip
}

proctype destination()
{
    byte token;
end_destination:
    atomic {
        !dead[DESTINATION] && capsules != 0 ->
        if // any that was ever made
        :: HAS(capsules, 2) -> token = 2
        :: HAS(capsules, 3) -> token = 3
        fi;
        does[DESTINATION] = committing
    }
    do
    :: atomic { !dead[DESTINATION] && m_commit == 0 && a_commit == 0 && !r_commit -> m_commit = token }
    :: atomic { !dead[DESTINATION] && r_commit -> r_commit = false; does[DESTINATION] = gone } break
    :: atomic { !dead[DESTINATION] && a_commit != 0 -> told(DESTINATION, a_commit); a_commit = 0 } break
    :: dead[DESTINATION] -> break
    od
}

// Loses what is on its way, and kills.
proctype fate()
{
end_fate:
    do
    :: atomic { faults < FAULTS && m_park != 0 -> m_park = 0; faults++ }
    :: atomic { faults < FAULTS && m_abort != 0 -> m_abort = 0; faults++ }
    :: atomic { faults < FAULTS && m_commit != 0 -> m_commit = 0; faults++ }
    :: atomic { faults < FAULTS && a_park != 0 -> a_park = 0; faults++ }
    :: atomic { faults < FAULTS && a_abort != 0 -> a_abort = 0; faults++ }
    :: atomic { faults < FAULTS && a_commit != 0 -> a_commit = 0; faults++ }
    :: atomic { mortal[SOURCE] && !dead[SOURCE] -> dead[SOURCE] = true; a_park = 0; a_abort = 0; r_park = false; r_abort = false }
    :: atomic { mortal[DESTINATION] && !dead[DESTINATION] -> dead[DESTINATION] = true; a_commit = 0; r_commit = false }
    od
}

// Looks at every state: whose operations would be accepted?
#define ALONE(p, e) (!(HAS(ever[p], e) && (MAY(p, e, 0) || MAY(p, e, 1))) || last == p)
#define ALONE_ALL(p) (ALONE(p, 1) && ALONE(p, 2) && ALONE(p, 3) && ALONE(p, 4))
#ifdef LIVENESS
bool time;
#endif
proctype watch()
{
end_watch:
    do
#ifdef LIVENESS
    :: time = !time // it goes on though nothing happens
#endif
    :: atomic { !(ALONE_ALL(SOURCE) && ALONE_ALL(DESTINATION) && ALONE_ALL(SUCCESSOR)) -> assert(false) }
    od
}

init
{
    atomic {
        told(SOURCE, 1);
        give(SOURCE, 1);
#ifdef LIVENESS // where what may happen need not
        if :: mortal[SOURCE] = true :: skip fi;
        if :: mortal[DESTINATION] = true :: skip fi;
        if :: hasty = true :: skip fi;
#else
        mortal[SOURCE] = true;
        mortal[DESTINATION] = true;
        hasty = true;
#endif
        run server();
        run source();
        run destination();
        run fate();
        run watch()
    }
}

#define OWNED(p) (!dead[p] && does[p] == owns && record[0].owner == p && record[1].owner == p && \
                  knows[p] == record[0].epoch && knows[p] == record[1].epoch)
ltl owned { <> [] (OWNED(SOURCE) || OWNED(DESTINATION) || OWNED(SUCCESSOR)) }
