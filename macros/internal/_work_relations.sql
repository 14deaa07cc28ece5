{% macro _work_relations(target) %}
  {%- set schema = api.Relation.create(database=target.database, schema='enrichment_work') -%}
  {%- set name = target.schema ~ '__' ~ target.identifier -%}
  {{ return({
    'schema': schema.without_identifier(),
    'staged': schema.incorporate(path={'identifier': name ~ '__staged'}),
    'outcome': schema.incorporate(path={'identifier': name ~ '__outcome'}),
  }) }}
{% endmacro %}
