// Package crd installs CustomResourceDefinitions.
package crd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset/typed/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	sigsyaml "sigs.k8s.io/yaml"
)

// Manifest is one CustomResourceDefinition as it was written.
type Manifest struct {
	Name string
	json []byte
}

// Read returns the manifests in the *.yaml, *.yml and *.json files of dir in
// tree, in the order of the files' names. A file that holds anything but
// CustomResourceDefinitions is an error; kustomize's own files are passed over.
func Read(tree fs.FS, dir string) ([]Manifest, error) {
	entries, err := fs.ReadDir(tree, dir)
	if err != nil {
		return nil, err
	}
	var all []Manifest
	for _, e := range entries {
		switch path.Ext(e.Name()) {
		case ".yaml", ".yml", ".json":
		default:
			continue
		}
		if e.IsDir() || strings.HasPrefix(e.Name(), "kustomiz") {
			continue
		}
		text, err := fs.ReadFile(tree, path.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		found, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		all = append(all, found...)
	}
	if len(all) == 0 {
		return nil, errors.New("no CustomResourceDefinition found")
	}
	return all, nil
}

func parse(text []byte) ([]Manifest, error) {
	var all []Manifest
	docs := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for n := 1; ; n++ {
		var doc map[string]any
		if err := docs.Decode(&doc); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("document %d: %w", n, err)
		}
		if len(doc) == 0 {
			continue
		}
		json, err := sigsyaml.Marshal(doc)
		if err == nil {
			json, err = sigsyaml.YAMLToJSON(json)
		}
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", n, err)
		}
		var head metav1.PartialObjectMetadata
		if err := sigsyaml.Unmarshal(json, &head); err != nil {
			return nil, fmt.Errorf("document %d: %w", n, err)
		}
		if head.APIVersion != apiextensionsv1.SchemeGroupVersion.String() || head.Kind != "CustomResourceDefinition" || head.Name == "" {
			return nil, fmt.Errorf("document %d is no named CustomResourceDefinition of %s but %s %q of %s", n, apiextensionsv1.SchemeGroupVersion, head.Kind, head.Name, head.APIVersion)
		}
		all = append(all, Manifest{Name: head.Name, json: json})
	}
}

// Apply installs the manifests, over what is there, and returns when the API
// server serves them all.
func Apply(ctx context.Context, cfg *rest.Config, all []Manifest) error {
	client, err := apiextensions.NewForConfig(cfg)
	if err != nil {
		return err
	}
	force := true
	for _, m := range all {
		_, err := client.CustomResourceDefinitions().Patch(ctx, m.Name, types.ApplyPatchType, m.json,
			metav1.PatchOptions{FieldManager: "controlplane", Force: &force})
		if err != nil {
			return fmt.Errorf("applying CustomResourceDefinition %s: %w", m.Name, err)
		}
	}
	for _, m := range all {
		var why error
		err := wait.PollUntilContextCancel(ctx, 25*time.Millisecond, true, func(ctx context.Context) (bool, error) {
			var done bool
			done, why = established(ctx, client, m.Name)
			return done, nil
		})
		if err != nil {
			return fmt.Errorf("CustomResourceDefinition %s is not served (%w): %w", m.Name, err, why)
		}
	}
	return nil
}

func established(ctx context.Context, client apiextensions.CustomResourceDefinitionsGetter, name string) (bool, error) {
	crd, err := client.CustomResourceDefinitions().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return false, err
	}
	for _, c := range crd.Status.Conditions {
		if c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue {
			return true, nil
		}
		if c.Status == apiextensionsv1.ConditionFalse {
			err = fmt.Errorf("%s: %s", c.Reason, c.Message)
		}
	}
	return false, err
}
