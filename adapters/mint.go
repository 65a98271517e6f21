package adapters

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"

	"rollbook/engine/session"
)

var errStaleDirectory = errors.New("this pod's directory is behind the book")

// TokenForm is the shape in which a venue's clients expect a token.
type TokenForm uint8

// The forms.
const (
	// Alphanumeric is 32 of A-Z a-z 0-9, 190 random bits: the form of the Genesis samples.
	Alphanumeric TokenForm = iota
	// URLSafe is 32 random bytes in unpadded base64url (RFC 4648, 5).
	URLSafe
	// Base64 is 32 random bytes in standard base64, padded.
	Base64
	// GUID is a random UUID, version 4, lower case: 122 random bits.
	GUID
)

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// Mint makes a fresh token from the system's random source.
func (f TokenForm) Mint() string {
	return f.draw(func(buf []byte) { rand.Read(buf) })
}

// draw makes a token from random bytes.
func (f TokenForm) draw(random func([]byte)) string {
	var raw [32]byte
	switch f {
	case URLSafe:
		random(raw[:])
		return base64.RawURLEncoding.EncodeToString(raw[:])
	case Base64:
		random(raw[:])
		return base64.StdEncoding.EncodeToString(raw[:])
	case GUID:
		random(raw[:16])
		stamp(raw[:16])
		return session.SessionID(raw[:16]).String()
	}
	return drawLetters(random)
}

// drawLetters takes each letter with the same chance: a byte that would favour the first letters is thrown away.
func drawLetters(random func([]byte)) string {
	const fair = 256 - 256%len(alphabet)
	out := make([]byte, 0, 32)
	for buf := make([]byte, 48); ; {
		random(buf)
		for _, b := range buf {
			if int(b) < fair {
				if out = append(out, alphabet[int(b)%len(alphabet)]); len(out) == cap(out) {
					return string(out)
				}
			}
		}
	}
}

// MintSessionID makes a random UUID, version 4 (RFC 9562, 5.4).
func MintSessionID() session.SessionID {
	var id session.SessionID
	rand.Read(id[:])
	stamp(id[:])
	return id
}

func stamp(id []byte) {
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
}

// successor is what a refresh gives: a new handle and new tokens.
type successor struct {
	handle          session.Handle
	access, refresh string
}

// mintSuccessor makes fresh tokens for a session whose refresh token stays.
func mintSuccessor(form TokenForm, presented string) successor {
	return successor{handle: session.Handle(MintSessionID()), access: form.Mint(), refresh: presented}
}

// deriveSuccessor makes the tokens that follow a presented one: always the same for the same presented token, family
// (the session) and generation, so that a repeat harms nobody. HKDF-SHA-256 (RFC 5869) with the deployment key: whoever
// has the presented token but not the key cannot compute them.
func (g *Gate) deriveSuccessor(form TokenForm, presented session.TokenHash, id session.SessionID, generation uint32) successor {
	part := func(label string) func([]byte) {
		info := append([]byte("rollbook/successor/v1/"+label+"/"), id[:]...)
		info = binary.BigEndian.AppendUint32(info, generation)
		stream, taken := []byte(nil), 0
		return func(buf []byte) {
			// HKDF's output is a prefix of a longer one, so asking for more continues the stream.
			var err error
			if stream, err = hkdf.Key(sha256.New, g.cfg.DeploymentKey[:], presented[:], string(info), taken+len(buf)); err != nil {
				panic("adapters: HKDF refused a length that no token needs: " + err.Error())
			}
			taken += copy(buf, stream[taken:])
		}
	}
	var next successor
	part("handle")(next.handle[:])
	stamp(next.handle[:])
	next.access, next.refresh = form.draw(part("access")), form.draw(part("refresh"))
	return next
}
