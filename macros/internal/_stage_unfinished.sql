{% macro _stage_unfinished(rows, columns, existing, results) %}
  {%- set names -%}
    {%- for column in columns -%}
      {{ '' if loop.first else ', ' }}{{ adapter.quote(column) }}
    {%- endfor -%}
  {%- endset -%}
  {#- Where rows wait for the text of another enrichment, the SELECT yields the whole: of that, rows
      are left out that are done and unchanged. -#}
  {% call statement('leave_out_done') -%}
    delete from {{ rows }} as staged
    where exists (
        select 1 from {{ existing }} as waiting
        where waiting.enrichment_status in ('pending', 'stale') and waiting.enrichment_error is not null
      )
      and exists (
        select 1 from {{ existing }} as previous
        where previous.enrichment_status = 'done'
          {%- for column in columns %}
          and previous.{{ adapter.quote(column) }} is not distinct from staged.{{ adapter.quote(column) }}
          {%- endfor %}
      )
  {%- endcall %}
  {#- What was forgotten is unfinished in the results alone. -#}
  {% call statement('stage_unfinished') -%}
    insert into {{ rows }} ({{ names }}, enrichment_row)
    select {{ names }}, {{ dbt_enrich._row_sql(columns) }}
    from {{ existing }} as previous
    where (
        enrichment_status in ('pending', 'stale', 'failed')
        {%- if results %}
        or exists (
          select 1 from {{ results }} as results
          where {{ dbt_enrich._same_key('results', 'previous') }} and results.enrichment_status = 'stale'
        )
        {%- endif %}
      )
      and not exists (
        select 1 from {{ rows }} as staged where {{ dbt_enrich._same_key('staged', 'previous') }}
      )
  {%- endcall %}
{% endmacro %}
