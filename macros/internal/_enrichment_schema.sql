{% macro _enrichment_schema() %}
  {%- set name = var('enrichment_schema', 'enrichment') -%}
  {%- set default = api.Relation.create(database=target.database, schema=name) -%}
  {%- set catalog = dbt_enrich._call_plugin('catalog', default, {'database': target.database}) -%}
  {%- set schema, prefix = default, '' -%}
  {%- if not catalog.has_schemas -%}
    {%- set schema, prefix = default.incorporate(path={'schema': 'main'}), name ~ '_' -%}
  {%- endif -%}
  {{ return({
    'schema': schema.without_identifier() if catalog.has_schemas else none,
    'has_comments': catalog.has_comments,
    'batches': schema.incorporate(path={'identifier': prefix ~ 'batches'}),
    'attempts': schema.incorporate(path={'identifier': prefix ~ 'attempts'}),
    'usage': schema.incorporate(path={'identifier': prefix ~ 'usage'}),
  }) }}
{% endmacro %}
