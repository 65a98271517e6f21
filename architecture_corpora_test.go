package rollbook_test

import (
	"fmt"
	"go/ast"
	"maps"
	"path"
	"slices"
	"strings"
)

// The bounds of what fuzzing begins with. The corpora are read at every test of their packages.
const (
	maxInput   = 4 << 10    // bytes of one input, as it is stored
	maxCorpus  = 48         // inputs of one target
	maxCorpora = 1536 << 10 // bytes of all
)

// brokenCorpora wants a corpus for each fuzz target in its package's testdata/fuzz, within the bounds, and no corpus that
// has lost its target.
func brokenCorpora(house tree) (sentences []string) {
	targets := map[string]string{} // the folder of the corpus, and what the target is called
	for _, file := range house.source {
		for _, declared := range file.syntax.Decls {
			if f, ok := declared.(*ast.FuncDecl); ok && file.isTest() && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Fuzz") {
				targets[path.Join(file.dir, "testdata", "fuzz", f.Name.Name)] = file.dir + "." + f.Name.Name
			}
		}
	}
	inputs, total := map[string]int{}, 0
	for name, text := range house.texts {
		corpus := path.Dir(name)
		if path.Base(path.Dir(corpus)) != "fuzz" || path.Base(path.Dir(path.Dir(corpus))) != "testdata" {
			continue
		}
		inputs[corpus]++
		total += len(text)
		if len(text) > maxInput {
			sentences = append(sentences, fmt.Sprintf("%s has %d bytes, more than the %d of an input", name, len(text), maxInput))
		}
	}
	for _, corpus := range slices.Sorted(maps.Keys(targets)) {
		if inputs[corpus] == 0 {
			sentences = append(sentences, fmt.Sprintf("%s has no corpus in %s: fuzz it, run .ci/corpus and commit what it keeps", targets[corpus], corpus))
		}
	}
	for _, corpus := range slices.Sorted(maps.Keys(inputs)) {
		if targets[corpus] == "" {
			sentences = append(sentences, fmt.Sprintf("%s is the corpus of no fuzz target", corpus))
		}
		if inputs[corpus] > maxCorpus {
			sentences = append(sentences, fmt.Sprintf("%s has %d inputs, more than %d", corpus, inputs[corpus], maxCorpus))
		}
	}
	if total > maxCorpora {
		sentences = append(sentences, fmt.Sprintf("the corpora have %d bytes, more than %d", total, maxCorpora))
	}
	return sentences
}
