package advauth

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"hash"
)

// answer is what a client presents: RndA and RndB, each 16 bytes or absent.
type answer struct {
	login      string // exactly as sent: the MACs are over these bytes
	a, b       block
	hasA, hasB bool
}

// judge recognises the challenge that an answer answers.
type judge interface {
	// right reports whether the answer is the one to this challenge. It takes as long for a wrong one.
	right(challenge block) bool
}

// newJudge prepares to try an answer against many challenges.
func (p Profile) newJudge(key block, a answer) judge {
	if p == DESFire {
		return newDESFireJudge(key, a)
	}
	return newHMACJudge(key, a)
}

// proof is the server's own answer, which it owes to a client that has proved itself and sent RndA.
func (p Profile) proof(key, challenge block, a answer, token string, expireInSec int64) block {
	if p == DESFire {
		return encrypt(key, a.b, rotateLeft(desfireRndA(key, challenge, a)))
	}
	mac := hmac.New(sha256.New, key[:])
	input := hmacInput(serverLabel, a, challenge)
	input = withLength(input, []byte(token))
	mac.Write(binary.BigEndian.AppendUint32(input, uint32(expireInSec)))
	return block(mac.Sum(nil))
}

// hmac-sha256-128, with lp(x) = uint16be(len x) || x:
//
//	answer = HMAC-SHA-256(K, clientLabel 00 || lp(UserLogin) || Cb || lp(Ra))[0:16]
//	proof  = HMAC-SHA-256(K, serverLabel 00 || lp(UserLogin) || Cb || lp(Ra) || lp(Token) || uint32be(ExpireInSec))[0:16]
//
// Labels of their own stop reflection and swapped roles, lengths in front stop fields that run into one another
// (Basin, Cremers, Meier: Provably Repairing the ISO/IEC 9798 Standard). The proof covers the token, so a client that
// checks it has got the token that this server gave.
const (
	clientLabel = "advAuth/v1/hmac-sha256-128/client"
	serverLabel = "advAuth/v1/hmac-sha256-128/server"
)

func hmacInput(label string, a answer, challenge block) []byte {
	input := withLength(append([]byte(label), 0), []byte(a.login))
	input = append(input, challenge[:]...)
	if !a.hasA {
		return withLength(input, nil)
	}
	return withLength(input, a.a[:])
}

type hmacJudge struct {
	mac   hash.Hash
	input []byte // of the MAC; the challenge stands at its place
	place int
	sum   [sha256.Size]byte
	answer
}

func newHMACJudge(key block, a answer) *hmacJudge {
	return &hmacJudge{mac: hmac.New(sha256.New, key[:]), input: hmacInput(clientLabel, a, block{}),
		place: len(clientLabel) + 1 + 2 + len(a.login), answer: a}
}

func (j *hmacJudge) right(challenge block) bool {
	copy(j.input[j.place:], challenge[:])
	j.mac.Reset()
	j.mac.Write(j.input)
	want := j.mac.Sum(j.sum[:0])[:len(j.b)]
	// A client that sends the challenge back as its own has drawn nothing.
	reflected := subtle.ConstantTimeCompare(j.a[:], challenge[:])
	return j.hasB && subtle.ConstantTimeCompare(want, j.b[:])&^reflected == 1
}

// aes128-desfire: MIFARE DESFire EV1's AuthenticateAES, AES-128 in CBC mode, all chained from a zero vector:
//
//	challenge c0 = E(RndB), answer c1 c2 = E(RndA || rotl8(RndB)), proof E(rotl8(RndA))
//
// The rotation keeps anybody from sending the challenge back as the answer to itself.
type desfireJudge struct {
	rndB block // that the answer holds
	full bool
}

func newDESFireJudge(key block, a answer) desfireJudge {
	return desfireJudge{rotateRight(decrypt(key, a.a, a.b)), a.hasA && a.hasB}
}

func (j desfireJudge) right(challenge block) bool {
	return subtle.ConstantTimeCompare(j.rndB[:], challenge[:]) == 1 && j.full
}

// desfireChallenge is what a client is shown of a challenge: c0, as a card would send it.
func desfireChallenge(key, challenge block) block { return encrypt(key, block{}, challenge) }

// desfireRndA is the client's random number, which its answer holds encrypted.
func desfireRndA(key, challenge block, a answer) block {
	return decrypt(key, desfireChallenge(key, challenge), a.a)
}

// encrypt is one block of AES-128-CBC with the vector iv.
func encrypt(key, iv, plain block) (out block) {
	subtle.XORBytes(plain[:], plain[:], iv[:])
	newAES(key[:]).Encrypt(out[:], plain[:])
	return out
}

func decrypt(key, iv, sealed block) (out block) {
	newAES(key[:]).Decrypt(out[:], sealed[:])
	subtle.XORBytes(out[:], out[:], iv[:])
	return out
}

// newAES takes a key of 16 or 32 bytes.
func newAES(key []byte) cipher.Block {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("advauth: AES refused a key of its own length: " + err.Error())
	}
	return block
}

func rotateLeft(b block) (out block) {
	copy(out[:], b[1:])
	out[len(out)-1] = b[0]
	return out
}

func rotateRight(b block) (out block) {
	copy(out[1:], b[:])
	out[0] = b[len(b)-1]
	return out
}
