{% macro _model_request(target, staged, existing) %}
  {%- set existing_errors = none -%}
  {% if existing is not none and existing.is_table %}
    {%- set errors = dbt_enrich._errors_relation(target) -%}
    {%- set existing_errors = adapter.get_relation(errors.database, errors.schema, errors.identifier) -%}
  {% endif %}
  {{ return({
    'name': dbt_enrich._label(model),
    'selected': selected_resources,
    'unique_id': model.unique_id,
    'name_in_yaml': model.name,
    'package': model.package_name,
    'version_of_model': model.version,
    'patch_path': model.patch_path,
    'unique_key': config.get('unique_key'),
    'meta': (model.config.meta or {}).get('enrichment'),
    'columns': model.columns,
    'constraints': model.constraints if config.get('contract').enforced else none,
    'mode': var('enrichment_mode', none),
    'preview_rows': var('enrichment_preview_rows', none),
    'target': target | string,
    'threads': adapter.config.threads,
    'database': target.database,
    'identifier': target.identifier,
    'indexes': config.get('indexes'),
    'comments': (config.persist_relation_docs() and model.description)
      or (config.persist_column_docs() and model.columns),
    'full_refresh': should_full_refresh(),
    'upstream': dbt_enrich._upstream(model.depends_on.nodes),
    'empty': flags.EMPTY or false,
    'staged': staged,
    'select': model.compiled_code,
    'existing': (existing | string) if existing is not none and existing.is_table else none,
    'existing_errors': (existing_errors | string) if existing_errors else none,
  }) }}
{% endmacro %}
