{% macro _refresh_relations() %}
  {%- if not execute or not dbt_enrich._has_plugin() -%}
    {{ return('') }}
  {%- endif -%}
  {%- set relations = dbt_enrich._enrichment_schema() -%}
  {%- set work = dbt_enrich._work_relations(relations.batches) -%}
  {% call statement('known', fetch_result=true) -%}
    select comment from duckdb_tables()
    where schema_name = '{{ relations.batches.schema }}' and table_name = 'batches'
      and database_name = '{{ relations.batches.database }}'
  {%- endcall %}
  {%- set known = load_result('known').data -%}
  {% call statement('work') -%}
    create schema if not exists {{ work.schema }}
  {%- endcall %}
  {#- The plugin works on a connection of its own, which sees only what is committed. -#}
  {{ adapter.commit() }}
  {% do adapter.store_relation(
    dbt_enrich._plugin_alias(),
    relations.batches,
    [],
    '',
    '',
    {
      'action': 'relations',
      'version': dbt_enrich._package_version(),
      'project': project_name,
      'known': known[0][0] if known else none,
      'outcome': work.outcome | string,
    }
  ) %}
  {% call statement('outcome', fetch_result=true) -%}
    select run_id, batches, attempts, usage, fingerprint from {{ work.outcome }}
  {%- endcall %}
  {%- set outcome = load_result('outcome').data[0] -%}
  {% if outcome[0] %}
    {% call statement('refresh') -%}
      create or replace table {{ relations.batches }} as ({{ outcome[1] }});
      create or replace table {{ relations.attempts }} as ({{ outcome[2] }});
      create or replace table {{ relations.usage }} as ({{ outcome[3] }});
      comment on table {{ relations.batches }} is '{{ outcome[4] }}'
    {%- endcall %}
  {% endif %}
  {% call statement('unstage') -%}
    drop table if exists {{ work.outcome }}
  {%- endcall %}
  {{ adapter.commit() }}
  {% if outcome[0] %}
    {% do adapter.store_relation(
      dbt_enrich._plugin_alias(),
      relations.batches,
      [],
      '',
      '',
      {
        'action': 'finish',
        'version': dbt_enrich._package_version(),
        'project': project_name,
        'run_id': outcome[0],
      }
    ) %}
  {% endif %}
  {{ return('') }}
{% endmacro %}
