{% macro _enrichment_schema() %}
  {%- set schema = api.Relation.create(
    database=target.database,
    schema=var('enrichment_schema', 'enrichment'),
  ) -%}
  {{ return({
    'schema': schema.without_identifier(),
    'batches': schema.incorporate(path={'identifier': 'batches'}),
    'attempts': schema.incorporate(path={'identifier': 'attempts'}),
    'usage': schema.incorporate(path={'identifier': 'usage'}),
  }) }}
{% endmacro %}
