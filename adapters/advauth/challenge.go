package advauth

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash/fnv"
	"sync/atomic"
	"time"

	"rollbook/engine/session"
)

// block is what the protocol is made of: a challenge, half an answer, an API key.
type block [16]byte

// A challenge is not kept: it is a slot of time and a number within the slot, encrypted with a key of whom it is for. An
// answer does not say which challenge it answers, so all that may still be alive are tried. What keeps a challenge from
// being used twice is its nonce, which the writer accepts once. So any pod takes the answer to any pod's challenge, a
// flood of questions fills nothing, and a pod that starts again forgets nothing.
//
// Pods do not know of each other's numbers: two that give one login a challenge in the same slot give the same one once
// in perSlot times. Of its two answers the second is refused, as it must be, and its client asks again. So perSlot is as
// large as the trying allows.
const (
	slotLength = 10 * time.Second
	perSlot    = 512
	// lifetime is how long a challenge is good, at least: its slot ends up to slotLength later.
	lifetime = 20 * time.Second
	oldest   = int64(lifetime / slotLength) // slots before this one that are tried
	newest   = 1                            // slots after it: the pod that gave the challenge may be ahead by slotLength
)

const (
	challengeLabel = "advauth/challenge/v2"
	dummyLabel     = "advauth/dummy-key/v1"
	nonceLabel     = "advauth/nonce/v1"
)

// challenges makes challenges for users and decoys alike. Its methods are safe for concurrent use.
type challenges struct {
	key [32]byte
	// numbers are the next number within the slot, by a hash of the user; chance has them start anywhere. Counting in
	// place of drawing keeps two challenges of one login apart as long as one pod gives no more than perSlot in a slot.
	numbers [1024]atomic.Uint32
}

func newChallenges(key [32]byte) *challenges {
	c := &challenges{key: key}
	var random [4 * len(c.numbers)]byte
	rand.Read(random[:])
	for i := range c.numbers {
		c.numbers[i].Store(binary.NativeEndian.Uint32(random[4*i:]))
	}
	return c
}

// give makes a challenge for whoever the name stands for.
func (c *challenges) give(whom session.UserID, now time.Time) block {
	place := fnv.New32a()
	place.Write([]byte(whom))
	number := c.numbers[place.Sum32()%uint32(len(c.numbers))].Add(1)
	return newMaker(&c.key, whom).make(slotOf(now), uint16(number%perSlot))
}

// alive calls try with every challenge that may be answered now, and with its nonce. There is no early exit: how long it
// takes tells nothing of which one was answered.
func (c *challenges) alive(whom session.UserID, now time.Time, try func(challenge block, nonce func() session.TokenHash)) {
	m, current := newMaker(&c.key, whom), slotOf(now)
	for slot := current - oldest; slot <= current+newest; slot++ {
		for i := range uint16(perSlot) {
			try(m.make(slot, i), func() session.TokenHash { return nonce(whom, slot, i) })
		}
	}
}

// dummy is the key that a login without one is judged by.
func (c *challenges) dummy(whom session.UserID) block {
	mac := hmac.New(sha256.New, c.key[:])
	mac.Write(prefixed(dummyLabel, whom))
	return block(mac.Sum(nil))
}

// maker makes the challenges of one user: a permutation of the numbered places, so no two of them are alike.
type maker struct {
	cipher cipher.Block
	out    block
}

func newMaker(key *[32]byte, whom session.UserID) *maker {
	mac := hmac.New(sha256.New, key[:])
	mac.Write(prefixed(challengeLabel, whom))
	return &maker{cipher: newAES(mac.Sum(nil))}
}

func (m *maker) make(slot int64, i uint16) block {
	clear(m.out[:])
	numbered(m.out[:0], slot, i)
	m.cipher.Encrypt(m.out[:], m.out[:])
	return m.out
}

// nonce is what the book remembers of a challenge that was answered.
func nonce(whom session.UserID, slot int64, i uint16) session.TokenHash {
	return session.HashToken(string(numbered(prefixed(nonceLabel, whom), slot, i)))
}

func slotOf(now time.Time) int64 { return now.Unix() / int64(slotLength/time.Second) }

// prefixed begins the input of a MAC or a hash: label, a zero byte, and the user with its length in front.
func prefixed(label string, whom session.UserID) []byte {
	return withLength(append([]byte(label), 0), []byte(whom))
}

func numbered(to []byte, slot int64, i uint16) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint64(to, uint64(slot)), i)
}

// withLength appends x, with its length as two bytes in front; no x of this protocol is longer than 16 KiB.
func withLength(to, x []byte) []byte {
	return append(binary.BigEndian.AppendUint16(to, uint16(len(x))), x...)
}
