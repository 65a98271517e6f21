package main

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"testing"

	"filippo.io/age"
)

// TestSealedBackup: what is encrypted is opened by its identity and by no other, and not when it was changed.
func TestSealedBackup(t *testing.T) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	recipients, err := recipientsOf([]string{identity.Recipient().String()})
	if err != nil {
		t.Fatal(err)
	}
	var sealed bytes.Buffer
	to, err := sealTo(&sealed, recipients)
	if err != nil {
		t.Fatal(err)
	}
	text := bytes.Repeat([]byte("a verifier "), 20_000)
	if _, err := to.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed.Bytes(), []byte("verifier")) {
		t.Error("the text is in the file")
	}
	file := filepath.Join(t.TempDir(), "keys")
	opened := func(data []byte, with string) ([]byte, error) {
		putFile(t, file, []byte(with+"\n"))
		from, err := plainText(bytes.NewReader(data), "sealed", file)
		if err != nil {
			return nil, err
		}
		return io.ReadAll(from)
	}
	got, err := opened(sealed.Bytes(), identity.String())
	if err != nil || !bytes.Equal(got, text) {
		t.Errorf("%d bytes are read, %v", len(got), err)
	}
	var no *refused
	if _, err := opened(sealed.Bytes(), other.String()); !errors.As(err, &no) || no.code != "encrypted" {
		t.Errorf("another identity is told %v", err)
	}
	for at := 0; at < sealed.Len(); at += 997 {
		changed := bytes.Clone(sealed.Bytes())
		changed[at] ^= 1
		got, err := opened(changed, identity.String())
		if err == nil && at >= len(ageMark) {
			t.Errorf("a change at byte %d goes unnoticed", at)
		}
		if err == nil && bytes.Equal(got, text) { // without its mark it is no encrypted file, and no backup either
			t.Errorf("a change at byte %d gives the text", at)
		}
	}
	if _, err := opened(sealed.Bytes()[:sealed.Len()-1], identity.String()); err == nil {
		t.Error("a cut goes unnoticed")
	}
}
