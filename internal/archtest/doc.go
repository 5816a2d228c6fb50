// Package archtest holds the rules of the house as tests: who may import whom,
// one package comment a package, a line for each package in ARCHITECTURE.md,
// tests that ARCHITECTURE.md names, and effects only at the rim.
package archtest
