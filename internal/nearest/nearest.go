// Package nearest finds what a person may have meant by a word that does not
// exist, for messages that ask "did you mean".
package nearest

import "strings"

// Word returns the one of words that differs from s by the fewest letters to
// add, drop, change or swap, whatever their case; the first of several. It is
// "" if none is near enough to be a slip: one letter, one more for every four of
// s, and four at most. A word that equals s is not looked at.
func Word(s string, words []string) string {
	best, least := "", 1+min(1+len(s)/4, 4)
	low := strings.ToLower(s)
	for _, w := range words {
		if w == s || len(w)-len(s) >= least || len(s)-len(w) >= least {
			continue
		}
		if d := distance(low, strings.ToLower(w)); d < least {
			best, least = w, d
		}
	}
	return best
}

// maxLength bounds the work for one pair of words; names of Kubernetes with
// their namespace fit.
const maxLength = 330

// distance is the number of letters to add, drop, change or swap with their
// neighbour, each letter once, to make b of a.
func distance(a, b string) int {
	if len(a) > maxLength || len(b) > maxLength {
		return max(len(a), len(b))
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := last[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			row[j] = min(last[j]+1, row[j-1]+1, change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
