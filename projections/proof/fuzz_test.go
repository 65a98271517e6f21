package proof_test

import (
	"bytes"
	"errors"
	"testing"

	"rollbook/projections/proof"
)

// fuzzKey signed what is in the corpora, and nothing else.
const fuzzKey = "rollbook/test+bc325f83+Ab31F706BYLOoN8pCfQUKql8ktzR2uEWwQoILdSy5/J1"

func fuzzPublic(f *testing.F) proof.PublicKey {
	f.Helper()
	key, err := proof.ParsePublicKey(fuzzKey)
	must(f, err)
	return key
}

// FuzzExport: whatever a file holds, it is read to an end; and what is found good is good again.
func FuzzExport(f *testing.F) {
	key := fuzzPublic(f)
	f.Fuzz(func(t *testing.T, file []byte) {
		findings, reached, err := proof.VerifyExport(bytes.NewReader(file), proof.NewVerifier(key))
		if err != nil {
			t.Fatal(err)
		}
		covered := false
		for _, p := range reached {
			covered = covered || p.Checkpoint > 0 && p.Leaves > 0
		}
		if len(findings) == 0 && covered && !bytes.Contains(file, []byte(key.Name()+"/p")) {
			t.Error("pages count as signed without a checkpoint")
		}
		again, _, _ := proof.VerifyExport(bytes.NewReader(file), proof.NewVerifier(key))
		if places(again) != places(findings) {
			t.Errorf("found %s, and then %s", places(findings), places(again))
		}
	})
}

// FuzzProof: whatever a bundle holds, it is proved or it is not; and what is proved is not of other bytes.
func FuzzProof(f *testing.F) {
	key := fuzzPublic(f)
	f.Fuzz(func(t *testing.T, file []byte) {
		list, err := proof.ReadBundle(bytes.NewReader(file))
		if err != nil {
			if !errors.Is(err, proof.ErrNotProven) {
				t.Fatal(err)
			}
			return
		}
		for _, e := range list {
			if _, err := e.Check(key); err != nil {
				if !errors.Is(err, proof.ErrNotProven) {
					t.Fatal(err)
				}
				continue
			}
			e.Event = append(e.Event, 0)
			if _, err := e.Check(key); err == nil {
				t.Error("one proof proves two events")
			}
		}
	})
}
